//! Where a rewritten pod may run: on nodes that run the agent, have an architecture that the version is made for, and
//! have not reported a final fault.
//!
//! A few constant expressions in every required term: no list of nodes, no limit, understood by autoscalers. A node
//! that is new or silent may be chosen, since the pod waits there for its cache.

use std::collections::{BTreeMap, BTreeSet};

use headstart_externals::arch::Arch;
use headstart_externals::names::{CACHE_LABEL, UNSERVICEABLE};
use serde_json::{Value, json};

use crate::edit::{Edit, Place};
use crate::pod::Pod;

const REQUIRED: [&str; 4] =
    ["spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];

/// Label of nodes that Kubernetes itself keeps.
const ARCH: &str = "kubernetes.io/arch";

/// A label that nodes must have, with one of these values.
pub(crate) struct Demand {
    key: String,
    values: Vec<String>,
}

/// What the agent's DaemonSet demands of nodes.
pub(crate) fn of_agents(selector: &BTreeMap<String, String>) -> Vec<Demand> {
    selector.iter().map(|(key, value)| Demand { key: key.clone(), values: vec![value.clone()] }).collect()
}

/// What a version demands of nodes that is made for these architectures alone; nothing where it is made for all. Where
/// this program knows none of them, no node will do.
pub(crate) fn of_arches(arches: &BTreeSet<Arch>) -> Option<Demand> {
    let values = arches.iter().filter(|arch| **arch != Arch::Unknown).map(ToString::to_string).collect();
    (!arches.is_empty()).then(|| Demand { key: ARCH.to_owned(), values })
}

/// The edits that add the expressions; none if the pod is pinned to a node, where nothing is chosen any more.
pub(crate) fn restrict(pod: Pod<'_>, demands: &[Demand]) -> Vec<Edit> {
    if is_pinned(pod) {
        return Vec::new();
    }
    let expressions = expressions(demands);
    let required = REQUIRED.iter().fold(pod.0, |value, key| &value[key]);
    if required.is_null() {
        let terms = json!([{ "matchExpressions": expressions }]);
        return vec![Edit::Set(at(&["nodeSelectorTerms"]), terms)];
    }
    let terms = terms(required);
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

fn is_pinned(pod: Pod<'_>) -> bool {
    pod.spec()["nodeName"].as_str().is_some_and(|name| !name.is_empty())
}

/// Whether the pod may only run where a demand is not met: narrowed to it, the pod would wait for ever.
pub(crate) fn excludes(pod: Pod<'_>, demands: &[Demand]) -> bool {
    let required = REQUIRED.iter().fold(pod.0, |value, key| &value[key]);
    let own = &pod.spec()["nodeSelector"];
    if demands.iter().any(|demand| demand.values.is_empty()) {
        return true;
    }
    if is_pinned(pod) {
        return false;
    }
    let meets = |demand: &Demand, own: &str| demand.values.iter().any(|value| value == own);
    demands.iter().any(|demand| own[&demand.key].as_str().is_some_and(|own| !meets(demand, own)))
        || (!terms(required).is_empty() && terms(required).iter().all(|term| contradicts(term, demands)))
}

/// Whether the pod must go to a node that nobody can see from here, and says nothing of its own that makes it meet the
/// demand there: expressions are of no use where nothing is chosen.
pub(crate) fn is_bound_blindly(pod: Pod<'_>, demand: &Demand) -> bool {
    let required = REQUIRED.iter().fold(pod.0, |value, key| &value[key]);
    let meets = |own: &str| demand.values.iter().any(|value| value == own);
    if pod.spec()["nodeSelector"][&demand.key].as_str().is_some_and(meets) {
        return false;
    }
    let is_said = |term: &&Value| {
        let list = term["matchExpressions"].as_array().into_iter().flatten();
        list.into_iter().any(|expression| {
            let values = expression["values"].as_array().map_or(&[][..], Vec::as_slice);
            let is_met = values.iter().all(|value| value.as_str().is_some_and(meets));
            expression["key"] == demand.key.as_str() && expression["operator"] == "In" && is_met
        })
    };
    if is_pinned(pod) {
        return terms(required).is_empty() || !terms(required).iter().all(|term| is_said(&term));
    }
    terms(required).iter().filter(|term| names_a_node(term)).any(|term| !is_said(&term))
}

/// Whether a term of a pod's own selects no node that meets the demands.
fn contradicts(term: &Value, demands: &[Demand]) -> bool {
    let list = term["matchExpressions"].as_array().into_iter().flatten();
    list.into_iter().any(|expression| {
        let Some(demand) = demands.iter().find(|demand| expression["key"] == demand.key.as_str()) else {
            return false;
        };
        let listed = expression["values"].as_array().map_or(&[][..], Vec::as_slice);
        let mut names = demand.values.iter().map(|value| listed.iter().any(|listed| listed == value));
        match expression["operator"].as_str() {
            Some("In") => !names.any(|named| named),
            Some("NotIn") => names.all(|named| named),
            Some("DoesNotExist") => true,
            _ => false,
        }
    })
}

fn terms(required: &Value) -> &[Value] {
    required["nodeSelectorTerms"].as_array().map_or(&[], Vec::as_slice)
}

fn at(rest: &[&str]) -> Place {
    REQUIRED.iter().chain(rest).map(|&part| part.to_owned()).collect()
}

fn expressions(demands: &[Demand]) -> Vec<Value> {
    let healthy = json!({ "key": CACHE_LABEL, "operator": "NotIn", "values": [UNSERVICEABLE] });
    let demanded = demands
        .iter()
        // The API server refuses an expression without a value.
        .filter(|demand| !demand.values.is_empty())
        .map(|Demand { key, values }| json!({ "key": key, "operator": "In", "values": values }));
    std::iter::once(healthy).chain(demanded).collect()
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
        list.into_iter().any(|expression| {
            let one = expression["values"].as_array().is_some_and(|values| values.len() == 1);
            expression["key"] == key && expression["operator"] == "In" && one
        })
    };
    names("matchFields", "metadata.name") || names("matchExpressions", "kubernetes.io/hostname")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restricted(spec: Value) -> Value {
        let mut pod = json!({ "spec": spec });
        let selector = BTreeMap::from([("pool".to_owned(), "runners".to_owned())]);
        let edits = restrict(Pod(&pod), &of_agents(&selector));
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
    fn a_choice_among_named_nodes_is_still_a_choice() {
        let hosts = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["a", "b"]});
        let own = json!([{"matchExpressions": [hosts]}]);
        let spec = json!({"affinity": {"nodeAffinity": {REQUIRED[3]: {"nodeSelectorTerms": own}}}});
        assert_eq!(terms(&restricted(spec))[0]["matchExpressions"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn terms_that_the_api_server_will_refuse_are_not_mended() {
        let spec = json!({"affinity": {"nodeAffinity": {REQUIRED[3]: {"nodeSelectorTerms": []}}}});
        assert_eq!(restricted(spec.clone())["spec"], spec);
    }

    #[test]
    fn a_pinned_pod_is_left_where_it_is() {
        assert_eq!(restricted(json!({"nodeName": "worker-1"})), json!({"spec": {"nodeName": "worker-1"}}));
    }

    #[test]
    fn a_version_for_some_architectures_goes_where_they_are() {
        let demands =
            |arches: &[Arch]| of_arches(&arches.iter().copied().collect()).into_iter().collect::<Vec<_>>();
        assert!(demands(&[]).is_empty(), "made for all");
        let arm = demands(&[Arch::Arm64]);
        let mut pod = json!({ "spec": {} });
        let edits = restrict(Pod(&pod), &arm);
        crate::edit::apply(&mut pod, edits).unwrap();
        assert_eq!(
            terms(&pod)[0]["matchExpressions"][1],
            json!({"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]})
        );
        let selects = |arch: &str| json!({ "spec": { "nodeSelector": { ARCH: arch } } });
        assert!(excludes(Pod(&selects("amd64")), &arm));
        assert!(!excludes(Pod(&selects("arm64")), &arm));
        let requires = |operator: &str, values: Value| {
            let own = json!([{"matchExpressions": [{"key": ARCH, "operator": operator, "values": values}]}]);
            json!({"spec": {"affinity": {"nodeAffinity": {REQUIRED[3]: {"nodeSelectorTerms": own}}}}})
        };
        assert!(excludes(Pod(&requires("In", json!(["amd64", "s390x"]))), &arm));
        assert!(!excludes(Pod(&requires("In", json!(["amd64", "arm64"]))), &arm));
        assert!(excludes(Pod(&requires("NotIn", json!(["arm64"]))), &arm));
        assert!(excludes(Pod(&json!({ "spec": {} })), &demands(&[Arch::Unknown])), "no node is known to do");
        let both = demands(&[Arch::Amd64, Arch::Arm64]);
        assert!(!excludes(Pod(&requires("NotIn", json!(["arm64"]))), &both), "the other one is left");
    }

    #[test]
    fn who_is_bound_to_a_node_must_say_that_it_has_the_architecture() {
        let arm = of_arches(&[Arch::Arm64].into()).unwrap();
        let bound = |spec: Value| is_bound_blindly(Pod(&json!({ "spec": spec })), &arm);
        let affinity = |terms: Value| json!({"nodeAffinity": {REQUIRED[3]: {"nodeSelectorTerms": terms}}});
        let host = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["worker-1"]});
        let is_arm = json!({"key": ARCH, "operator": "In", "values": ["arm64"]});
        assert!(bound(json!({"nodeName": "worker-1"})));
        assert!(bound(json!({"nodeName": "worker-1", "nodeSelector": {ARCH: "amd64"}})));
        assert!(!bound(json!({"nodeName": "worker-1", "nodeSelector": {ARCH: "arm64"}})));
        let said = affinity(json!([{"matchExpressions": [is_arm]}]));
        assert!(!bound(json!({"nodeName": "worker-1", "affinity": said})));
        assert!(bound(json!({"affinity": affinity(json!([{"matchExpressions": [host]}]))})));
        assert!(!bound(json!({"affinity": affinity(json!([{"matchExpressions": [host, is_arm]}]))})));
        assert!(!bound(json!({})), "the scheduler is told where to go");
    }
}
