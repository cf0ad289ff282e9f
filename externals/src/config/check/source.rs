//! The rules for a revision's source: one kind, reachable by a sound address, pinned or named.

use std::collections::BTreeMap;

use url::Url;

use super::super::file::{
    FileArchive, FileAuth, FileDirectory, FileDownload, FileMirror, FileRunnerImage, FileSecret, FileSource,
};
use super::super::problem::Problems;
use super::super::{ArchiveFormat, Auth, Download, Mirror, Source};
use super::check_absolute;
use crate::arch::Arch;
use crate::image;
use crate::relpath::RelPath;

/// Where the official runner image has its externals.
const DEFAULT_IMAGE_PATH: &str = "/home/runner/externals";

/// `named` tells whether the revision has a name, which a source that can change under one address needs.
pub(super) fn check(file: FileSource, named: bool, path: &str, problems: &mut Problems) -> Option<Source> {
    match (file.directory, file.archive, file.runner_image) {
        (Some(directory), None, None) => check_directory(directory, named, path, problems),
        (None, Some(archive), None) => check_archive(archive, &format!("{path}.archive"), problems),
        (None, None, Some(image)) => {
            check_runner_image(image, named, &format!("{path}.runnerImage"), problems)
        }
        (None, None, None) => {
            problems.none(path, "is missing; give a `directory`, an `archive` or a `runnerImage`")
        }
        _ => problems
            .none(path, "has more than one of `directory`, `archive`, `runnerImage`; keep one of them"),
    }
}

fn check_directory(file: FileDirectory, named: bool, path: &str, problems: &mut Problems) -> Option<Source> {
    if !named {
        problems.add(
            path,
            "a directory has no digest and can change under its name; give the revision a `revision` name, \
             and a new one for each change",
        );
    }
    let at = format!("{path}.directory.path");
    match file.path {
        None => problems.none(at, "is missing; give the absolute path of the externals folder"),
        Some(text) => {
            check_absolute(&text, &at, problems);
            Some(Source::Directory { path: text.trim_end_matches('/').to_owned() })
        }
    }
}

fn check_runner_image(
    file: FileRunnerImage,
    named: bool,
    path: &str,
    problems: &mut Problems,
) -> Option<Source> {
    let inside = file.path.unwrap_or_else(|| DEFAULT_IMAGE_PATH.to_owned());
    check_absolute(&inside, &format!("{path}.path"), problems);
    let at = format!("{path}.image");
    let Some(image) = file.image else {
        return problems.none(at, "is missing; name the runner image, best as name@sha256:<64 hex digits>");
    };
    if let Some(problem) = image::reference_problem(&image) {
        return problems.none(at, format!("{image:?} {problem}"));
    }
    if !named && !image::is_pinned(&image) {
        let message = format!(
            "{image:?} has no digest and can change under its name; write it as name@sha256:<64 hex digits>, or give \
             the revision a `revision` name, and a new one for each change"
        );
        problems.add(at, message);
    }
    Some(Source::RunnerImage { image, path: inside.trim_end_matches('/').to_owned() })
}

fn check_archive(file: FileArchive, path: &str, problems: &mut Problems) -> Option<Source> {
    let FileArchive { path: inside, amd64, arm64 } = file;
    let inside = inside.and_then(|text| match RelPath::new(&text) {
        Ok(rel) => Some(rel),
        Err(error) => problems.none(format!("{path}.path"), format!("{text:?} {error}")),
    });
    if amd64.is_none() && arm64.is_none() {
        return problems.none(path, "names no archive; give `amd64`, `arm64` or both");
    }
    let mut downloads = BTreeMap::new();
    for (arch, file) in [(Arch::Amd64, amd64), (Arch::Arm64, arm64)] {
        let Some(file) = file else { continue };
        if let Some(download) = check_download(file, &format!("{path}.{arch}"), problems) {
            downloads.insert(arch, download);
        }
    }
    Some(Source::Archive { path: inside, downloads })
}

fn check_download(file: FileDownload, path: &str, problems: &mut Problems) -> Option<Download> {
    let FileDownload { url, mirrors, auth, sha256, format } = file;
    let sha256 = match sha256 {
        None => problems
            .none(format!("{path}.sha256"), "is missing; an archive is used only with its pinned digest"),
        Some(digest) if image::is_sha256(&digest) => Some(digest),
        Some(digest) => problems.none(
            format!("{path}.sha256"),
            format!("{digest:?} is not a sha256 of 64 lower-case hex digits"),
        ),
    };
    let mirrors = mirrors
        .into_iter()
        .enumerate()
        .filter_map(|(at, FileMirror { url, auth })| {
            let (url, auth) = check_address(url, auth, &format!("{path}.mirrors[{at}]"), problems)?;
            Some(Mirror { url: url.into(), auth })
        })
        .collect();
    let (url, auth) = check_address(url, auth, path, problems)?;
    let Some(format) = format.or_else(|| ArchiveFormat::of_name(url.path())) else {
        return problems.none(
            format!("{path}.format"),
            format!("cannot be told from {:?}; give tar.gz, tar.xz or tar.zst", url.path()),
        );
    };
    Some(Download { url: url.into(), mirrors, auth, sha256: sha256?, format })
}

fn check_url(url: Option<String>, path: &str, problems: &mut Problems) -> Option<Url> {
    let Some(text) = url else {
        return problems.none(path, "is missing; give an https://, http:// or file:// address");
    };
    let parsed = match Url::parse(&text) {
        Ok(parsed) => parsed,
        Err(error) => return problems.none(path, format!("{text:?} is not an address: {error}")),
    };
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return problems.none(path, "holds credentials; a configuration must not");
    }
    match parsed.scheme() {
        "https" | "http" => Some(parsed),
        "file" if parsed.to_file_path().is_ok() => Some(parsed),
        _ => problems.none(path, format!("{text:?} must start with https://, http:// or file:///")),
    }
}

/// An address and what it asks for; a secret would be seen by everybody on any other way than https.
fn check_address(
    url: Option<String>,
    auth: Option<FileAuth>,
    path: &str,
    problems: &mut Problems,
) -> Option<(Url, Option<Auth>)> {
    let url = check_url(url, &format!("{path}.url"), problems)?;
    let auth = auth.and_then(|auth| check_auth(auth, &format!("{path}.auth"), problems));
    if auth.is_some() && url.scheme() != "https" {
        problems.add(format!("{path}.auth"), "is sent over https only; use an https:// address");
    }
    Some((url, auth))
}

fn check_auth(file: FileAuth, path: &str, problems: &mut Problems) -> Option<Auth> {
    let mut secret = |FileSecret { secret }: FileSecret, kind: &str| match secret {
        Some(name) if is_folder_name(&name) => Some(name),
        _ => problems.none(
            format!("{path}.{kind}.secret"),
            "must name a folder below the agent's --credentials: letters, digits, dashes and dots",
        ),
    };
    match (file.bearer, file.basic) {
        (Some(file), None) => Some(Auth::Bearer { secret: secret(file, "bearer")? }),
        (None, Some(file)) => Some(Auth::Basic { secret: secret(file, "basic")? }),
        _ => problems.none(path, "must be either `bearer` or `basic`, each with a `secret`"),
    }
}

/// Whether it can be the name of a Secret, and of the folder that it is mounted as.
fn is_folder_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !name.is_empty() && name.len() <= 253 && name.bytes().all(inner) && !name.starts_with('.')
}
