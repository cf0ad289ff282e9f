//! The rules of the configuration: file shape in, validated values or all problems out.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::file::{FileConfig, FileEntries, FileHooks, FileProfile, FileRevision, FileRunnerCreation};
use super::problem::Problems;
use super::{Config, Hooks, Profile, Revision, RunnerCreation, preset};
use crate::glob;
use crate::image::{self, ImagePattern};
use crate::names::API_VERSION;
use crate::relpath::RelPath;
use crate::selection::{Entries, NODE, Selection};
use crate::version::{PROFILE_NAME_MAX, VersionName, is_profile_name};

mod bounds;
mod labels;
mod source;

const DEFAULT_HOST_ROOT: &str = "/var/lib/headstart";

/// Turns the file's content into a [`Config`]; `problems` holds what reading it found already.
pub(super) fn check(file: FileConfig, mut problems: Problems) -> Result<Config, Problems> {
    let FileConfig { api_version, host_root, node_selector, profiles, .. } = file;
    if api_version.as_deref() != Some(API_VERSION) {
        problems.add("apiVersion", format!("must be {API_VERSION}"));
    }
    let host_root = host_root.unwrap_or_else(|| DEFAULT_HOST_ROOT.to_owned());
    check_absolute(&host_root, "hostRoot", &mut problems);
    for (key, value) in &node_selector {
        if !labels::is_key(key) || !labels::is_value(value) {
            problems.add("nodeSelector", format!("{key:?}: {value:?} is not a label that a node can have"));
        }
    }
    let limits = bounds::check_limits(&file.limits, &mut problems);
    let verify = bounds::check_verify(&file.verify, &mut problems);
    let rollout = bounds::check_rollout(&file.rollout, &mut problems);
    let startup_taints = bounds::check_taints(&file.startup_taints, &mut problems);
    let runner_creation = check_runner_creation(file.runner_creation, &mut problems);
    if profiles.is_empty() {
        problems.add(
            "profiles",
            "there is no profile; add at least one, such as {name: node16, preset: node16, …}",
        );
    }
    let profiles: Vec<Profile> = profiles
        .into_iter()
        .enumerate()
        .filter_map(|(at, profile)| check_profile(profile, &format!("profiles[{at}]"), &mut problems))
        .collect();
    check_unique_names(&profiles, &mut problems);
    if problems.is_empty() {
        Ok(Config {
            host_root,
            node_selector,
            limits,
            verify,
            rollout,
            startup_taints,
            runner_creation,
            profiles,
        })
    } else {
        Err(problems)
    }
}

fn check_runner_creation(file: FileRunnerCreation, problems: &mut Problems) -> RunnerCreation {
    for (at, name) in file.namespaces.iter().enumerate() {
        if !labels::is_dns_label(name) {
            let message = format!(
                "{name:?} is not the name of a namespace: lower-case letters, digits and inner dashes, at most 63 characters"
            );
            problems.add(format!("runnerCreation.namespaces[{at}]"), message);
        }
    }
    RunnerCreation { namespaces: file.namespaces.into_iter().collect(), level: file.level }
}

fn check_unique_names(profiles: &[Profile], problems: &mut Problems) {
    let mut names = HashSet::new();
    let mut versions = HashSet::new();
    for (at, profile) in profiles.iter().enumerate() {
        if !names.insert(&profile.name) {
            problems.add(
                format!("profiles[{at}].name"),
                format!("two profiles are named {:?}; give each a name of its own", profile.name),
            );
            continue;
        }
        for revision in &profile.revisions {
            if !versions.insert(&revision.version) {
                problems.add(
                    format!("profiles[{at}].revisions"),
                    format!(
                        "two revisions of {:?} are the same; give each a `revision` of its own or remove one",
                        profile.name
                    ),
                );
            }
        }
    }
}

/// The recipe part of a profile, after its preset was put in.
#[derive(Default)]
struct Recipe {
    images: Vec<String>,
    selection: Selection,
    hooks: Hooks,
}

fn check_profile(file: FileProfile, path: &str, problems: &mut Problems) -> Option<Profile> {
    let FileProfile { name, preset, images, entries, omit, hooks, revisions, offer } = file;
    let name = check_name(name, path, problems);
    let recipe = match preset {
        Some(preset) => {
            if entries.is_some() || omit.is_some() {
                problems.add(
                    path,
                    "`preset` decides `entries` and `omit`; leave these out, or leave out `preset`",
                );
            }
            check_preset(&preset, images, hooks, path, problems)
        }
        None => check_recipe(RecipeFields { images, entries, omit, hooks }, path, problems),
    };
    if revisions.is_empty() {
        problems.add(format!("{path}.revisions"), "there is no revision; add one with a `source`");
    }
    let images = recipe.as_ref().map_or_else(Vec::new, |recipe| recipe.images.clone());
    let images = check_images(&images, &format!("{path}.images"), problems);
    // Stand-ins where the profile itself has problems, so that those of its revisions are found as well.
    let stand_in = Recipe::default();
    let (known, shown) = (recipe.as_ref().unwrap_or(&stand_in), name.as_deref().unwrap_or("profile"));
    let check = |(at, file)| {
        let inherited = Inherited {
            profile: shown,
            selection: &known.selection,
            images: recipe.as_ref().map(|_| images.as_slice()),
        };
        check_revision(file, inherited, &format!("{path}.revisions[{at}]"), problems)
    };
    let names: Vec<Option<String>> = revisions.iter().map(|file| file.revision.clone()).collect();
    let revisions = revisions.into_iter().enumerate().filter_map(check).collect();
    if offer.is_some() && !names.contains(&offer) {
        problems.add(
            format!("{path}.offer"),
            "must be the `revision` name of one of the profile's revisions; leave it out to offer the newest",
        );
    }
    let (name, recipe) = (name?, recipe?);
    Some(Profile { name, selection: recipe.selection, hooks: recipe.hooks, revisions, offer })
}

/// What a revision takes from its profile.
struct Inherited<'a> {
    profile: &'a str,
    selection: &'a Selection,
    /// Unknown where the profile's own part could not be read.
    images: Option<&'a [ImagePattern]>,
}

fn check_name(name: Option<String>, path: &str, problems: &mut Problems) -> Option<String> {
    let path = format!("{path}.name");
    match name {
        None => problems.none(path, "is missing; give the profile a name such as node16"),
        Some(name) if !is_profile_name(&name) => problems.none(
            path,
            format!(
                "{name:?} must be lower-case letters, digits and inner dashes, at most {PROFILE_NAME_MAX} characters"
            ),
        ),
        name => name,
    }
}

fn check_preset(
    name: &str,
    images: Option<Vec<String>>,
    hooks: Option<FileHooks>,
    path: &str,
    problems: &mut Problems,
) -> Option<Recipe> {
    let Some(preset) = preset::find(name) else {
        return problems
            .none(format!("{path}.preset"), format!("there is no preset {name:?}; there is node16"));
    };
    let hooks = hooks.map_or(preset.hooks, hooks_of);
    Some(Recipe { images: images.unwrap_or(preset.images), selection: preset.selection, hooks })
}

/// The fields that a profile without a preset spells out.
struct RecipeFields {
    images: Option<Vec<String>>,
    entries: Option<FileEntries>,
    omit: Option<Vec<String>>,
    hooks: Option<FileHooks>,
}

fn check_recipe(fields: RecipeFields, path: &str, problems: &mut Problems) -> Option<Recipe> {
    let RecipeFields { images, entries, omit, hooks } = fields;
    let mut omit = omit.unwrap_or_default();
    for (at, pattern) in omit.iter().enumerate() {
        if pattern.is_empty() || pattern.contains('/') {
            problems.add(format!("{path}.omit[{at}]"), "must name an entry, such as node12 or node12*");
        }
    }
    let hooks = hooks.unwrap_or_default();
    let entries = check_entries(entries, &omit, &format!("{path}.entries"), problems)?;
    // The order does not decide the content, so it must not decide the key.
    omit.sort();
    omit.dedup();
    Some(Recipe {
        images: images.unwrap_or_default(),
        selection: Selection { entries, omit },
        hooks: hooks_of(hooks),
    })
}

fn hooks_of(file: FileHooks) -> Hooks {
    let FileHooks { legacy, read_templates, own_template } = file;
    Hooks { legacy, read_templates, own_template }
}

fn check_entries(
    entries: Option<FileEntries>,
    omit: &[String],
    path: &str,
    problems: &mut Problems,
) -> Option<Entries> {
    let named = match entries {
        None => {
            return problems.none(path, "is missing; write `all`, or each entry with the paths kept of it");
        }
        Some(FileEntries::Word(word)) if word == "all" => return Some(Entries::All),
        Some(FileEntries::Word(word)) => {
            return problems.none(path, format!("{word:?} must be `all` or a map"));
        }
        Some(FileEntries::Named(named)) if named.is_empty() => return problems.none(path, "keeps nothing"),
        Some(FileEntries::Named(named)) => named,
    };
    let mut kept = BTreeMap::new();
    for (entry, paths) in named {
        let path = format!("{path}.{entry}");
        if !RelPath::new(&entry).is_ok_and(|entry| entry.inside_entry().is_none()) {
            problems.add(&path, "must be the name of one folder of externals, such as node16");
        }
        if omit.iter().any(|pattern| glob::matches(pattern, &entry)) {
            problems.add(&path, "is both kept and omitted; take it out of one");
        }
        kept.insert(entry, check_kept_paths(&paths, &path, problems));
    }
    Some(Entries::Named(kept))
}

fn check_kept_paths(paths: &[String], path: &str, problems: &mut Problems) -> BTreeSet<RelPath> {
    let mut kept = BTreeSet::new();
    for (at, text) in paths.iter().enumerate() {
        match RelPath::new(text) {
            Ok(rel) => {
                kept.insert(rel);
            }
            Err(error) => problems.add(format!("{path}[{at}]"), format!("{text:?} {error}")),
        }
    }
    let holds_node = paths.iter().any(|text| RelPath::new(text).is_ok_and(|rel| covers_node(&rel)));
    if !holds_node {
        problems.add(path, format!("does not keep {NODE}, the one file that jobs execute; add it"));
    }
    kept
}

fn covers_node(kept: &RelPath) -> bool {
    NODE.strip_prefix(kept.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn check_revision(
    file: FileRevision,
    inherited: Inherited<'_>,
    path: &str,
    problems: &mut Problems,
) -> Option<Revision> {
    let FileRevision { revision, images, source, volume_image } = file;
    if revision.as_deref().is_some_and(|name| name.trim().is_empty()) {
        problems.add(format!("{path}.revision"), "is empty; leave it out or name the revision");
    }
    let images = match images {
        Some(images) => check_images(&images, &format!("{path}.images"), problems),
        None if inherited.images.is_some_and(<[_]>::is_empty) => problems
            .none(format!("{path}.images"), "names no runner image; add some here or to the profile")?,
        None => inherited.images.unwrap_or_default().to_vec(),
    };
    if let Some(image) = volume_image.as_deref().filter(|image| !image::is_pinned(image)) {
        problems.add(
            format!("{path}.volumeImage"),
            format!("{image:?} is not pinned; write it as name@sha256:<64 hex digits>"),
        );
    }
    let source = source::check(source, revision.is_some(), &format!("{path}.source"), problems)?;
    let version =
        VersionName::of(inherited.profile, inherited.selection, revision.as_deref(), &source.identity());
    Some(Revision { revision, images, source, volume_image, version })
}

/// An empty list of the profile is judged with its revisions, which may have lists of their own.
fn check_images(images: &[String], path: &str, problems: &mut Problems) -> Vec<ImagePattern> {
    let patterns: Vec<ImagePattern> = images.iter().map(ImagePattern::new).collect();
    for (at, pattern) in patterns.iter().enumerate() {
        if let Some(problem) = pattern.problem() {
            problems.add(format!("{path}[{at}]"), problem);
        }
    }
    patterns
}

/// Reports a path that is not absolute and plain.
pub(super) fn check_absolute(text: &str, path: &str, problems: &mut Problems) {
    let plain = text.strip_prefix('/').is_some_and(|rest| RelPath::new(rest).is_ok());
    if !plain {
        problems.add(path, format!("{text:?} must be an absolute path without `..`"));
    }
}
