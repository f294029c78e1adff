//! The arguments, also as distribution's program and its container image take them.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The program's arguments in Orlop's own words. Called `registry`, or `entrypoint.sh` as in the
/// images of registry:2 and registry:3, it takes theirs: they may begin with the program to run, a
/// configuration file alone means `serve`, `-v` is the version, and a flag may have a value.
pub(crate) fn of_distribution(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    if !is_distribution(arguments.first().map(OsString::as_os_str)) {
        return arguments;
    }
    if arguments.get(1).is_some_and(|first| is_program(first)) {
        arguments.remove(1);
    }
    if arguments.get(1).is_some_and(|first| first == "garbage-collect") {
        arguments = arguments.into_iter().filter_map(without_value).collect();
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

/// Whether the program goes by a name of distribution's.
pub(crate) fn is_distribution(program: Option<&OsStr>) -> bool {
    let name = program.and_then(|path| Path::new(path).file_name());
    name.is_some_and(|name| name == "registry" || name == "entrypoint.sh")
}

/// Whether this is the program itself: the entry point of the images ends in `exec "$@"`.
fn is_program(argument: &OsStr) -> bool {
    Path::new(argument).file_name().is_some_and(|name| name == "registry" || name == "orlop")
}

/// `--dry-run=true` is `--dry-run`, and `--dry-run=false` is nothing.
fn without_value(argument: OsString) -> Option<OsString> {
    let flag = argument.to_str().filter(|text| text.starts_with('-'));
    match flag.and_then(|text| text.split_once('=')) {
        // As Go reads them.
        Some((flag, "1" | "t" | "T" | "true" | "TRUE" | "True")) => Some(flag.into()),
        Some((_, "0" | "f" | "F" | "false" | "FALSE" | "False")) => None,
        _ => Some(argument),
    }
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
            (
                "registry garbage-collect --delete-untagged=true -d=false --quiet=1 a.yml",
                "registry garbage-collect --delete-untagged --quiet a.yml",
            ),
            (
                "registry garbage-collect -m=TRUE --dry-run=maybe a=true.yml",
                "registry garbage-collect -m --dry-run=maybe a=true.yml",
            ),
            ("registry -v", "registry --version"),
            ("/entrypoint.sh registry serve a.yml", "/entrypoint.sh serve a.yml"),
            (
                "/entrypoint.sh /bin/registry garbage-collect -d a.yml",
                "/entrypoint.sh garbage-collect -d a.yml",
            ),
            ("/entrypoint.sh bin/registry --version", "/entrypoint.sh --version"),
            ("/entrypoint.sh registry -v", "registry --version"),
            ("/entrypoint.sh orlop check", "/entrypoint.sh check"),
            ("registry help", "registry --help"),
            ("registry help serve", "registry serve --help"),
            ("registry", "registry"),
            ("orlop a.yml", "orlop a.yml"),
        ] {
            assert_eq!(words(typed), meant);
        }
    }
}
