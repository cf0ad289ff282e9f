//! Where a rewritten pod may run: on nodes that run the agent and have not reported a final fault.
//!
//! One constant expression in every required term: no list of nodes, no limit, understood by autoscalers. A node
//! that is new or silent may be chosen, since the pod waits there for its cache.

use std::collections::BTreeMap;

use headstart_externals::names::{CACHE_LABEL, UNSERVICEABLE};
use serde_json::{Value, json};

use crate::edit::{Edit, Place};
use crate::pod::Pod;

const REQUIRED: [&str; 4] =
    ["spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];

/// The edits that add the expressions; none if the pod is pinned to a node, where nothing is chosen any more.
pub(crate) fn restrict(pod: Pod<'_>, selector: &BTreeMap<String, String>) -> Vec<Edit> {
    if pod.spec()["nodeName"].as_str().is_some_and(|name| !name.is_empty()) {
        return Vec::new();
    }
    let expressions = expressions(selector);
    let terms = REQUIRED.iter().fold(pod.0, |value, key| &value[key])["nodeSelectorTerms"].as_array();
    let Some(terms) = terms.filter(|terms| !terms.is_empty()) else {
        let terms = json!([{ "matchExpressions": expressions }]);
        return vec![Edit::Set(at(&["nodeSelectorTerms"]), terms)];
    };
    let narrowed =
        terms.iter().enumerate().filter(|(_, term)| selects_something(term) && !names_a_node(term));
    narrowed
        .flat_map(|(index, term)| {
            let present = term["matchExpressions"].as_array().map_or(&[][..], Vec::as_slice);
            let missing = expressions.iter().filter(|expression| !present.contains(expression));
            let place = at(&["nodeSelectorTerms", &index.to_string(), "matchExpressions"]);
            missing.map(move |expression| Edit::Append(place.clone(), expression.clone())).collect::<Vec<_>>()
        })
        .collect()
}

fn at(rest: &[&str]) -> Place {
    REQUIRED.iter().chain(rest).map(|&part| part.to_owned()).collect()
}

fn expressions(selector: &BTreeMap<String, String>) -> Vec<Value> {
    let healthy = json!({ "key": CACHE_LABEL, "operator": "NotIn", "values": [UNSERVICEABLE] });
    let selected =
        selector.iter().map(|(key, value)| json!({ "key": key, "operator": "In", "values": [value] }));
    std::iter::once(healthy).chain(selected).collect()
}

/// An empty term selects no node at all; an expression in it would make it select nearly all.
fn selects_something(term: &Value) -> bool {
    ["matchExpressions", "matchFields"]
        .iter()
        .any(|key| term[key].as_array().is_some_and(|list| !list.is_empty()))
}

/// A term that names its node leaves nothing to choose: the pod must go where its runner's volume is.
fn names_a_node(term: &Value) -> bool {
    let names = |list: &str, key: &str| {
        let list = term[list].as_array().into_iter().flatten();
        list.into_iter().any(|expression| expression["key"] == key && expression["operator"] == "In")
    };
    names("matchFields", "metadata.name") || names("matchExpressions", "kubernetes.io/hostname")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restricted(spec: Value) -> Value {
        let mut pod = json!({ "spec": spec });
        let selector = BTreeMap::from([("pool".to_owned(), "runners".to_owned())]);
        let edits = restrict(Pod(&pod), &selector);
        crate::edit::apply(&mut pod, edits).unwrap();
        pod
    }

    fn terms(pod: &Value) -> &Value {
        &pod.pointer(&format!("/{}", REQUIRED.join("/"))).unwrap()["nodeSelectorTerms"]
    }

    #[test]
    fn a_pod_without_affinity_gets_one_term() {
        let pod = restricted(json!({}));
        assert_eq!(terms(&pod)[0]["matchExpressions"][0]["values"], json!(["unserviceable"]));
        assert_eq!(
            terms(&pod)[0]["matchExpressions"][1],
            json!({"key": "pool", "operator": "In", "values": ["runners"]})
        );
    }

    #[test]
    fn every_own_term_is_kept_and_narrowed_once() {
        let zone = json!({"key": "zone", "operator": "In", "values": ["a"]});
        let own = json!([{"matchExpressions": [zone]}, {"matchFields": [zone]}, {}]);
        let spec = json!({"affinity": {"nodeAffinity": {REQUIRED[3]: {"nodeSelectorTerms": own}}}});
        let once = restricted(spec);
        assert_eq!(terms(&once)[0]["matchExpressions"].as_array().unwrap().len(), 3);
        assert_eq!(terms(&once)[1]["matchExpressions"].as_array().unwrap().len(), 2);
        assert_eq!(terms(&once)[2], json!({}), "an empty term selects nothing and must go on doing so");
        assert_eq!(restricted(once["spec"].clone()), once);
    }

    #[test]
    fn a_term_that_names_its_node_is_left_alone() {
        let host = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["worker-1"]});
        let name = json!({"key": "metadata.name", "operator": "In", "values": ["worker-1"]});
        let own = json!([{"matchExpressions": [host]}, {"matchFields": [name]}]);
        let spec = json!({"affinity": {"nodeAffinity": {REQUIRED[3]: {"nodeSelectorTerms": own}}}});
        assert_eq!(restricted(spec.clone())["spec"], spec);
    }

    #[test]
    fn a_pinned_pod_is_left_where_it_is() {
        assert_eq!(restricted(json!({"nodeName": "worker-1"})), json!({"spec": {"nodeName": "worker-1"}}));
    }
}
