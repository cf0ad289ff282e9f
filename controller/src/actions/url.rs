//! Which addresses of GitHub follow from the address of a repository, an organization or an enterprise.

use ::url::{Host, Url};

/// Why an address leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is no address.
    #[error("githubConfigUrl is no URL: {0}; write it like https://github.com/my-organization")]
    Malformed(String),
    /// Neither `http` nor `https`.
    #[error("githubConfigUrl begins with {0}://; only https:// and http:// can be used")]
    Scheme(String),
    /// It carries a name or a password.
    #[error("githubConfigUrl holds credentials; put them into the Secret that githubConfigSecret names")]
    Login,
    /// Its path is none of the three.
    #[error(
        "the path of githubConfigUrl is {0:?}; it must be an organization, an owner and a repository, or \
         enterprises and an enterprise"
    )]
    Path(String),
}

/// What runners are registered for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Organization(String),
    Enterprise(String),
    Repository(String, String),
}

/// Where runners are registered, and what is asked to do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    configured: String,
    owner: Owner,
    api: Url,
    is_loopback: bool,
}

/// Hosts of the GitHub that is not installed by its users; besides those that end in [`RESIDENCY`].
const HOSTED: [&str; 3] = ["github.com", "www.github.com", "github.localhost"];

/// End of the hosts of enterprises with a place of their own for their data.
const RESIDENCY: &str = ".ghe.com";

impl Target {
    /// Reads a `githubConfigUrl`. With `is_server_forced`, every host is taken for a GitHub Enterprise Server: that is
    /// what the environment variable `GITHUB_ACTIONS_FORCE_GHES` asks for.
    pub fn parse(configured: &str, is_server_forced: bool) -> Result<Self, UrlError> {
        let configured = configured.trim_matches('/');
        let url = Url::parse(configured).map_err(|error| UrlError::Malformed(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UrlError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Login);
        }
        let owner = owner(url.path()).ok_or_else(|| UrlError::Path(url.path().to_owned()))?;
        let api = api(&url, is_server_forced).map_err(|error| UrlError::Malformed(error.to_string()))?;
        let is_loopback = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        Ok(Self { configured: configured.to_owned(), owner, api, is_loopback })
    }

    /// The `githubConfigUrl`, without slashes around it.
    pub fn configured(&self) -> &str {
        &self.configured
    }

    /// Whether it is on this machine, where no proxy leads.
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    /// Where an installation of a GitHub App is given a token.
    pub fn installation_token(&self, installation: u64) -> Url {
        self.at(&format!("app/installations/{installation}/access_tokens"))
    }

    /// Where a token for registering runners is given.
    pub fn registration_token(&self) -> Url {
        let owner = match &self.owner {
            Owner::Organization(name) => format!("orgs/{name}"),
            Owner::Enterprise(name) => format!("enterprises/{name}"),
            Owner::Repository(owner, name) => format!("repos/{owner}/{name}"),
        };
        self.at(&format!("{owner}/actions/runners/registration-token"))
    }

    /// Where that token is exchanged for the address of the Actions service and a token for it.
    pub fn runner_registration(&self) -> Url {
        self.at("actions/runner-registration")
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.api.clone();
        url.set_path(&format!("{}/{path}", self.api.path().trim_end_matches('/')));
        url
    }
}

fn owner(path: &str) -> Option<Owner> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts[..] {
        [_, ""] | ["", _] | [""] => None,
        [organization] => Some(Owner::Organization(organization.to_owned())),
        [first, enterprise] if first.eq_ignore_ascii_case("enterprises") => {
            Some(Owner::Enterprise(enterprise.to_owned()))
        }
        [owner, repository] => Some(Owner::Repository(owner.to_owned(), repository.to_owned())),
        _ => None,
    }
}

/// The base of the REST API.
fn api(url: &Url, is_server_forced: bool) -> Result<Url, ::url::ParseError> {
    let mut api = url.clone();
    api.set_query(None);
    api.set_fragment(None);
    let host = url.host_str().unwrap_or_default();
    if is_server_forced || !(HOSTED.contains(&host) || host.ends_with(RESIDENCY)) {
        api.set_path("/api/v3");
        return Ok(api);
    }
    api.set_path("/");
    api.set_host(Some(&format!("api.{}", host.strip_prefix("www.").unwrap_or(host))))?;
    Ok(api)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration_token(url: &str, is_server_forced: bool) -> String {
        Target::parse(url, is_server_forced).unwrap().registration_token().to_string()
    }

    #[test]
    fn every_kind_of_owner_on_every_kind_of_host() {
        for (url, api) in [
            ("https://github.com/o", "https://api.github.com/orgs/o"),
            ("https://GitHub.com/o/", "https://api.github.com/orgs/o"),
            ("https://www.github.com/o/r", "https://api.github.com/repos/o/r"),
            ("https://github.com/enterprises/e", "https://api.github.com/enterprises/e"),
            ("https://github.com/Enterprises/e/", "https://api.github.com/enterprises/e"),
            ("https://github.com/enterprises", "https://api.github.com/orgs/enterprises"),
            ("http://github.localhost/o", "http://api.github.localhost/orgs/o"),
            ("https://acme.ghe.com/o", "https://api.acme.ghe.com/orgs/o"),
            ("https://ghe.com/o", "https://ghe.com/api/v3/orgs/o"),
            ("https://notgithub.com/o/r", "https://notgithub.com/api/v3/repos/o/r"),
            ("https://ghes.corp:8443/o/r", "https://ghes.corp:8443/api/v3/repos/o/r"),
            ("http://127.0.0.1:9/o/r?x=1#y", "http://127.0.0.1:9/api/v3/repos/o/r"),
        ] {
            let expected = format!("{api}/actions/runners/registration-token");
            assert_eq!(registration_token(url, false), expected, "{url}");
        }
    }

    #[test]
    fn a_server_can_be_forced() {
        let token = registration_token("https://github.com/o", true);
        assert_eq!(token, "https://github.com/api/v3/orgs/o/actions/runners/registration-token");
    }

    #[test]
    fn the_other_addresses() {
        let target = Target::parse("/https://github.com/o/r/", false).unwrap();
        assert_eq!(target.configured(), "https://github.com/o/r");
        assert_eq!(
            target.runner_registration().as_str(),
            "https://api.github.com/actions/runner-registration"
        );
        let token = "https://api.github.com/app/installations/5/access_tokens";
        assert_eq!(target.installation_token(5).as_str(), token);
    }

    #[test]
    fn loopback_is_known() {
        for (url, expected) in [
            ("http://127.0.0.1/o", true),
            ("http://[::1]:80/o", true),
            ("http://localhost/o", true),
            ("http://10.0.0.1/o", false),
            ("http://github.localhost/o", false),
        ] {
            assert_eq!(Target::parse(url, false).unwrap().is_loopback(), expected, "{url}");
        }
    }

    #[test]
    fn what_leads_nowhere_says_why() {
        for (url, words) in [
            ("", "no URL"),
            ("github.com/o", "no URL"),
            ("ftp://github.com/o", "ftp://"),
            ("https://me:s3cret@github.com/o", "holds credentials"),
            ("https://github.com", "the path"),
            ("https://github.com/a/b/c", "the path"),
            ("https://github.com/enterprises/e/f", "the path"),
            ("https://github.com/a//b", "the path"),
        ] {
            let error = Target::parse(url, false).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("s3cret"), "{url}: {error}");
        }
    }
}
