//! What a request says about who asks: read from mounted Secrets for each request, so that a rotated one is used at
//! once, and shown nowhere.

use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path};

use headstart_externals::config::Auth;
use headstart_externals::fault::FaultReason;
use reqwest::RequestBuilder;

use crate::fault::{Fault, Outcome};

/// More than any token has.
const MAX_BYTES: u64 = 64 << 10;

/// Adds what `auth` says to a request. The client drops it where a redirect leads to another host, port or scheme.
pub(super) fn authorise(
    request: RequestBuilder,
    auth: &Auth,
    folder: Option<&Path>,
) -> Outcome<RequestBuilder> {
    let Some(folder) = folder else {
        return Err(unusable("the source names credentials (`auth`), but --credentials is not given"));
    };
    let (Auth::Bearer { secret } | Auth::Basic { secret }) = auth;
    // Also what is published may ask for a download, not only the checked configuration.
    let mut parts = Path::new(secret).components();
    if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
        return Err(unusable(&format!("{secret:?} is no name of a folder below --credentials")));
    }
    let read = |name: &str| read(&folder.join(secret).join(name));
    match auth {
        Auth::Bearer { .. } => Ok(request.bearer_auth(read("token")?)),
        Auth::Basic { .. } => {
            let (username, password) = (read("username")?, read("password")?);
            if username.contains(':') {
                return Err(unusable("a `username` for basic authentication cannot hold a colon"));
            }
            Ok(request.basic_auth(username, Some(password)))
        }
    }
}

/// What the file holds, without the line end that editors leave; nothing of it gets into a message.
fn read(path: &Path) -> Outcome<String> {
    let at = path.display();
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut text))
        .map_err(|error| unusable(&format!("failed to read {at}: {error}")))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(unusable(&format!("{at} is longer than {MAX_BYTES} bytes")));
    }
    let text = String::from_utf8(text).map_err(|_| unusable(&format!("{at} is not UTF-8")))?;
    let text = text.trim_end_matches(['\r', '\n']);
    match text {
        "" => Err(unusable(&format!("{at} is empty"))),
        text if text.contains(|c: char| c.is_control() || !c.is_ascii()) => {
            Err(unusable(&format!("{at} holds more than one line of ASCII")))
        }
        text => Ok(text.to_owned()),
    }
}

fn unusable(message: &str) -> Fault {
    Fault::new(FaultReason::CredentialsUnusable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header that a request would have, for a Secret with these files.
    fn header(auth: &Auth, files: &[(&str, &str)]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mirror")).unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join("mirror").join(name), content).unwrap();
        }
        headstart_runtime::program::install_crypto();
        let request = reqwest::Client::new().get("https://example.com/");
        let request = authorise(request, auth, Some(folder.path())).map_err(|fault| fault.message)?;
        let request = request.build().unwrap();
        let value = &request.headers()["authorization"];
        assert_eq!(format!("{value:?}"), "Sensitive");
        Ok(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn files_become_a_header_that_shows_nothing() {
        let secret = || "mirror".to_owned();
        let bearer = Auth::Bearer { secret: secret() };
        assert_eq!(header(&bearer, &[("token", "s3cret\n")]).unwrap(), "Bearer s3cret");
        let basic = Auth::Basic { secret: secret() };
        let files = [("username", "me\r\n"), ("password", "a:b")];
        assert_eq!(header(&basic, &files).unwrap(), "Basic bWU6YTpi");
    }

    #[test]
    fn what_cannot_be_used_is_named_but_not_shown() {
        let bearer = Auth::Bearer { secret: "mirror".to_owned() };
        for (files, words) in [
            (&[][..], "mirror/token"),
            (&[("token", "\n")], "is empty"),
            (&[("token", "s3cret\ns3cret")], "more than one line"),
        ] {
            let message = header(&bearer, files).unwrap_err();
            assert!(message.contains(words) && !message.contains("s3cret"), "{message}");
        }
        let basic = Auth::Basic { secret: "mirror".to_owned() };
        let message = header(&basic, &[("username", "s3:cret"), ("password", "x")]).unwrap_err();
        assert!(message.contains("colon") && !message.contains("s3"), "{message}");
        for secret in ["..", "a/b", "/etc", ""] {
            let auth = Auth::Bearer { secret: secret.to_owned() };
            assert!(header(&auth, &[]).unwrap_err().contains("no name of a folder"), "{secret}");
        }
    }
}
