//! Reading pods from files: Pods, the pod templates of Jobs, the objects of AdmissionReviews, and Lists of them.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A pod to explain.
pub(crate) struct Subject {
    /// The file, with the number of the document where it holds several.
    pub(crate) input: String,
    /// The namespace that the pod is created in.
    pub(crate) namespace: String,
    /// The pod as the webhook would see it.
    pub(crate) pod: Value,
}

/// A file to read.
pub(crate) struct Input {
    path: PathBuf,
    /// Found in a folder, where other kinds of objects may lie beside pods.
    found: bool,
}

/// An input that cannot be explained.
pub(crate) struct Unreadable {
    /// Whether it is of another kind, and was found in a folder rather than named.
    pub(crate) skipped: bool,
    /// File and, where known, line.
    pub(crate) place: String,
    /// What is wrong.
    pub(crate) cause: String,
}

/// The files that `inputs` stand for: folders become the JSON and YAML files below them, sorted; links are not
/// followed there.
pub(crate) fn files(inputs: &[PathBuf]) -> Vec<Result<Input, Unreadable>> {
    let files = inputs.iter().flat_map(|input| match input.is_dir() {
        true => files_below(input),
        false => vec![Ok(Input { path: input.clone(), found: false })],
    });
    files.collect()
}

fn files_below(folder: &Path) -> Vec<Result<Input, Unreadable>> {
    let wanted = |path: &Path| {
        path.extension().is_some_and(|end| ["json", "yaml", "yml"].iter().any(|wanted| end == *wanted))
    };
    let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter();
    let files = entries.filter_map(|entry| match entry {
        Ok(entry) if entry.file_type().is_file() && wanted(entry.path()) => {
            Some(Ok(Input { path: entry.into_path(), found: true }))
        }
        Ok(_) => None,
        Err(error) => {
            Some(Err(Unreadable::new(folder.display().to_string(), format!("cannot be listed: {error}"))))
        }
    });
    let files: Vec<_> = files.collect();
    if files.is_empty() {
        let cause = "holds no .json, .yaml or .yml file".to_owned();
        return vec![Err(Unreadable::new(folder.display().to_string(), cause))];
    }
    files
}

/// Every pod of one file, and what in it cannot be read.
pub(crate) fn read(file: &Input) -> Vec<Result<Subject, Unreadable>> {
    let Input { path, found } = file;
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let text = match read_text(path) {
        Ok(text) => text,
        Err(cause) => return vec![Err(Unreadable::new(name, format!("cannot be read: {cause}")))],
    };
    let (documents, failure) = parse(&text);
    let several = documents.len() > 1;
    let failure = failure.map(|(line, cause)| Err(Unreadable::new(format!("{name}:{line}"), cause)));
    let subjects = documents.into_iter().enumerate().flat_map(|(at, document)| {
        let input = if several { format!("{name}#{}", at + 1) } else { name.clone() };
        subjects(&input, document)
    });
    let skip = |unreadable| Unreadable { skipped: *found, ..unreadable };
    subjects.map(|subject| subject.map_err(skip)).chain(failure).collect()
}

impl Unreadable {
    fn new(place: String, cause: String) -> Self {
        Self { skipped: false, place, cause }
    }
}

fn read_text(file: &Path) -> std::io::Result<String> {
    if file != Path::new("-") {
        return std::fs::read_to_string(file);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// All documents of a text; after a syntax error, those before it, the line and the cause.
fn parse(text: &str) -> (Vec<Value>, Option<(u64, String)>) {
    if text.trim_start().starts_with(['{', '[']) { parse_json(text) } else { parse_yaml(text) }
}

fn parse_json(text: &str) -> (Vec<Value>, Option<(u64, String)>) {
    let mut documents = Vec::new();
    for document in serde_json::Deserializer::from_str(text).into_iter() {
        match document {
            Ok(document) => documents.push(document),
            Err(error) => return (documents, Some((error.line() as u64, format!("not JSON: {error}")))),
        }
    }
    (documents, None)
}

fn parse_yaml(text: &str) -> (Vec<Value>, Option<(u64, String)>) {
    // Whole clusters are piped in here; the parser's own budget is for configuration files.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: usize::MAX, max_events: usize::MAX, max_documents: usize::MAX, max_total_scalar_bytes: usize::MAX },
    };
    match serde_saphyr::from_multiple_with_options::<Value>(text, options) {
        Ok(documents) if documents.iter().all(Value::is_null) => {
            (Vec::new(), Some((1, "holds no object; expected a Pod, a Job or an AdmissionReview".to_owned())))
        }
        Ok(documents) => (documents.into_iter().filter(|document| !document.is_null()).collect(), None),
        Err(error) => {
            let line = error.location().map_or(1, |at| at.line());
            let message = error.to_string();
            let cause = message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            (Vec::new(), Some((line, format!("neither JSON nor YAML: {cause}"))))
        }
    }
}

/// What one document holds.
fn subjects(input: &str, mut document: Value) -> Vec<Result<Subject, Unreadable>> {
    let unreadable = |cause: String| vec![Err(Unreadable::new(format!("{input}:1"), cause))];
    let subject = |namespace: &Value, pod: Value| {
        let namespace = namespace.as_str().unwrap_or("default").to_owned();
        vec![Ok(Subject { input: input.to_owned(), namespace, pod })]
    };
    let kind = document["kind"].as_str().unwrap_or_default().to_owned();
    match kind.as_str() {
        "Pod" => {
            let namespace = document["metadata"]["namespace"].clone();
            subject(&namespace, document)
        }
        "Job" => {
            let namespace = document["metadata"]["namespace"].clone();
            match document.pointer_mut("/spec/template").map(Value::take) {
                Some(Value::Object(template)) => subject(&namespace, pod_of_template(template)),
                _ => unreadable("the Job has no spec.template".to_owned()),
            }
        }
        "AdmissionReview" => {
            let namespace = document["request"]["namespace"].clone();
            match document.pointer_mut("/request/object").map(Value::take) {
                Some(object) if object["kind"] == "Pod" => subject(&namespace, object),
                Some(Value::Object(object)) => {
                    let kind = object.get("kind").and_then(Value::as_str).unwrap_or("object without a kind");
                    unreadable(format!("the AdmissionReview is for a {kind}, not for a Pod"))
                }
                _ => unreadable("the AdmissionReview has no request.object".to_owned()),
            }
        }
        "List" | "PodList" => list_items(input, &mut document),
        "" => unreadable("has no `kind`; expected a Pod, a Job or an AdmissionReview".to_owned()),
        other => unreadable(format!("is a {other}; expected a Pod, a Job or an AdmissionReview")),
    }
}

fn list_items(input: &str, list: &mut Value) -> Vec<Result<Subject, Unreadable>> {
    let Some(Value::Array(items)) = list.get_mut("items").map(Value::take) else {
        return vec![Err(Unreadable::new(input.to_owned(), "the List has no `items`".to_owned()))];
    };
    let numbered = items.into_iter().enumerate();
    numbered.flat_map(|(at, item)| subjects(&format!("{input}.items[{at}]"), item)).collect()
}

/// The pod that the job controller would create from a template, as far as decisions go.
fn pod_of_template(template: serde_json::Map<String, Value>) -> Value {
    let mut pod = template;
    pod.insert("apiVersion".to_owned(), json!("v1"));
    pod.insert("kind".to_owned(), json!("Pod"));
    Value::Object(pod)
}
