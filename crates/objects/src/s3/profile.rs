//! The files that Amazon's own programs share: `~/.aws/credentials` and `~/.aws/config`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::Keys;

/// How a profile can get its keys that is not done here.
const ELSEWHERE: [&str; 5] =
    ["credential_process", "role_arn", "sso_session", "sso_start_url", "web_identity_token_file"];

/// What one profile says. What stands in the file of credentials counts more.
#[derive(Debug, Default)]
pub(super) struct Profile {
    name: String,
    values: BTreeMap<String, String>,
}

impl Profile {
    /// The profile that `AWS_PROFILE` names, or else the one that is called `default`. That one is
    /// empty if it is nowhere.
    pub(super) fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let named = variable("AWS_PROFILE");
        let name = named.clone().unwrap_or_else(|| "default".to_owned());
        let place = |over: &str, file: &str| {
            let home = || variable("HOME").map(|home| PathBuf::from(home).join(".aws").join(file));
            variable(over).map(PathBuf::from).or_else(home)
        };
        let heading = if name == "default" { name.clone() } else { format!("profile {name}") };
        let files = [
            (place("AWS_CONFIG_FILE", "config"), &heading),
            (place("AWS_SHARED_CREDENTIALS_FILE", "credentials"), &name),
        ];
        let mut values = BTreeMap::new();
        let mut is_there = false;
        for (path, heading) in files {
            let Some(path) = path else { continue };
            match std::fs::read_to_string(&path) {
                Ok(text) => is_there |= section(&text, heading, &mut values),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("{}: {error}", path.display())),
            }
        }
        if named.is_some() && !is_there {
            return Err(format!(
                "AWS_PROFILE is {name}, and no such profile is in ~/.aws/credentials or \
                 ~/.aws/config (AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE)"
            ));
        }
        Ok(Self { name, values })
    }

    /// Its keys, if it has some.
    pub(super) fn keys(&self) -> Result<Option<Keys>, String> {
        let name = &self.name;
        if let Some(way) = ELSEWHERE.into_iter().find(|way| self.values.contains_key(*way)) {
            return Err(format!(
                "the profile {name} gets its keys by {way}, which Orlop does not do: use a profile \
                 with aws_access_key_id and aws_secret_access_key, or the variables of a web identity"
            ));
        }
        match (self.value("aws_access_key_id"), self.value("aws_secret_access_key")) {
            (Some(id), Some(secret)) => {
                Ok(Some(Keys { id, secret, session_token: self.value("aws_session_token") }))
            }
            (None, None) => Ok(None),
            _ => Err(format!(
                "the profile {name} has only one of aws_access_key_id and aws_secret_access_key"
            )),
        }
    }

    pub(super) fn region(&self) -> Option<String> {
        self.value("region")
    }

    fn value(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }
}

/// Adds what stands under a heading. False if there is no such heading.
fn section(text: &str, heading: &str, values: &mut BTreeMap<String, String>) -> bool {
    let (mut is_there, mut is_here) = (false, false);
    for line in text.lines() {
        // What is indented belongs to the value before it.
        if line.starts_with(['#', ';', ' ', '\t']) {
            continue;
        }
        let line = line.split(" #").next().unwrap_or_default().trim();
        if let Some(found) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_here = found.split_whitespace().eq(heading.split_whitespace());
            is_there |= is_here;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_here) {
            values.insert(name.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    is_there
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# keys\n[default]\naws_access_key_id = AK1\n\
        aws_secret_access_key=SK/+=1 # of the team\n\n[other]\naws_access_key_id = AK2\n\
        aws_secret_access_key = SK2\naws_session_token = T2\n[half]\naws_access_key_id = AK3\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\ns3 =\n  max_concurrent_requests = 20\n\
        [ profile  other ]\nregion=us-west-2\noutput = json\n[profile robot]\n\
        credential_process = /bin/robot\n[profile half]\n[profile sso]\nsso_session = s\n";

    fn read(profile: Option<&str>) -> Result<Profile, String> {
        let folder = tempfile::tempdir().unwrap();
        let aws = folder.path().join(".aws");
        std::fs::create_dir(&aws).unwrap();
        std::fs::write(aws.join("credentials"), CREDENTIALS).unwrap();
        std::fs::write(aws.join("elsewhere"), CONFIG).unwrap();
        Profile::read(&|name| match name {
            "AWS_PROFILE" => profile.map(str::to_owned),
            "HOME" => Some(folder.path().display().to_string()),
            "AWS_CONFIG_FILE" => Some(aws.join("elsewhere").display().to_string()),
            _ => None,
        })
    }

    #[test]
    fn profiles_are_read_as_amazon_writes_them() {
        let profile = read(None).unwrap();
        let keys = profile.keys().unwrap().unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.as_str()), ("AK1", "SK/+=1"));
        assert_eq!((keys.session_token, profile.region()), (None, Some("eu-west-1".to_owned())));
        let profile = read(Some("other")).unwrap();
        let keys = profile.keys().unwrap().unwrap();
        assert_eq!((keys.id.as_str(), keys.session_token.as_deref()), ("AK2", Some("T2")));
        assert_eq!(profile.region().as_deref(), Some("us-west-2"));
    }

    #[test]
    fn what_can_not_be_used_is_said() {
        for (profile, said) in [
            ("nobody", "AWS_PROFILE is nobody"),
            ("robot", "by credential_process"),
            ("sso", "by sso_session"),
            ("half", "only one of"),
        ] {
            let error = read(Some(profile)).and_then(|profile| profile.keys()).unwrap_err();
            assert!(error.contains(said) && error.contains(profile), "{error}");
        }
    }

    #[test]
    fn without_files_there_are_no_keys() {
        let profile = Profile::read(&|_| None).unwrap();
        assert!(profile.keys().unwrap().is_none() && profile.region().is_none());
    }
}
