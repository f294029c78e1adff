//! The arguments, also as distribution's program and its container image take them.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The program's arguments in Orlop's own words. Called `registry`, or `entrypoint.sh` as in the
/// images of registry:2 and registry:3, it takes theirs: a configuration file alone means `serve`,
/// and `-v` is the version.
pub(crate) fn of_distribution(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let name = arguments.first().and_then(|path| Path::new(path).file_name());
    if !name.is_some_and(|name| name == "registry" || name == "entrypoint.sh") {
        return arguments;
    }
    match arguments.get(1) {
        Some(first) if is_configuration(first) => arguments.insert(1, "serve".into()),
        Some(first) if first == "-v" => arguments = vec!["registry".into(), "--version".into()],
        Some(first) if first == "help" => {
            arguments.remove(1);
            arguments.push("--help".into());
        }
        _ => {}
    }
    arguments
}

fn is_configuration(argument: &OsStr) -> bool {
    let extension = Path::new(argument).extension();
    extension.is_some_and(|extension| extension == "yml" || extension == "yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> String {
        let arguments = of_distribution(line.split(' ').map(OsString::from));
        arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_names_of_distribution_take_its_arguments() {
        for (typed, meant) in [
            (
                "/entrypoint.sh /etc/distribution/config.yml",
                "/entrypoint.sh serve /etc/distribution/config.yml",
            ),
            ("registry a.yaml", "registry serve a.yaml"),
            ("/bin/registry serve a.yml", "/bin/registry serve a.yml"),
            ("registry garbage-collect -m a.yml", "registry garbage-collect -m a.yml"),
            ("registry -v", "registry --version"),
            ("registry help", "registry --help"),
            ("registry help serve", "registry serve --help"),
            ("registry", "registry"),
            ("orlop a.yml", "orlop a.yml"),
        ] {
            assert_eq!(words(typed), meant);
        }
    }
}
