//! Reads what programs count of themselves, in Prometheus' text format.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics(String);

impl Metrics {
    /// Of a program whose metrics are reached without credentials.
    pub async fn of(address: &str) -> Self {
        let answer = reqwest::get(format!("http://{address}/metrics")).await.unwrap();
        Self(answer.text().await.unwrap())
    }

    /// Of text that was got otherwise.
    pub fn read(text: String) -> Self {
        Self(text)
    }

    /// Labels and value of every series of a family.
    fn series<'m>(&'m self, family: &'m str) -> impl Iterator<Item = (&'m str, f64)> {
        let rest = move |line: &'m str| line.strip_prefix(family).filter(|rest| rest.starts_with(['{', ' ']));
        let lines = self.0.lines().filter_map(rest);
        lines
            .filter_map(|rest| rest.rsplit_once(' '))
            .filter_map(|(labels, value)| Some((labels, value.parse().ok()?)))
    }

    /// The sum of a family, without the series that carry this label.
    pub fn sum_without(&self, family: &str, label: &str) -> f64 {
        self.series(family).filter(|(labels, _)| !labels.contains(label)).map(|(_, value)| value).sum()
    }

    /// The sum of a family.
    pub fn sum(&self, family: &str) -> f64 {
        self.series(family).map(|(_, value)| value).sum()
    }

    /// A family by the value of its one label.
    pub fn by_label(&self, family: &str) -> BTreeMap<String, f64> {
        let named = |(labels, value): (&str, f64)| Some((labels.split('"').nth(1)?.to_owned(), value));
        self.series(family).filter_map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_apart_and_added_up() {
        let text = "# HELP calls x\ncalls{phase=\"a\"} 2\ncalls{phase=\"b\"} 3.5\ncalls_more 7\nplain 1\n";
        let metrics = Metrics::read(text.to_owned());
        assert_eq!((metrics.sum("calls"), metrics.sum("plain"), metrics.sum("none")), (5.5, 1.0, 0.0));
        assert_eq!(metrics.sum_without("calls", "phase=\"a\""), 3.5);
        assert_eq!(metrics.by_label("calls"), BTreeMap::from([("a".to_owned(), 2.0), ("b".to_owned(), 3.5)]));
    }
}
