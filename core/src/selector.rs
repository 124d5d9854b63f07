//! Which pods a Service selects.

use std::sync::Arc;

use crate::model::Labels;

/// Labels by key, owned or borrowed from a request's body.
pub trait LabelSet {
    /// The value of a label; `None` if the label is not set.
    fn value(&self, key: &str) -> Option<&str>;
}

impl LabelSet for Labels {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(Arc::as_ref)
    }
}

/// Whether a Service's selector selects a pod with these labels: each pair of it must be among them.
///
/// An empty selector selects **nothing**: the endpoints of such a Service are written by hand.
/// Source: <https://kubernetes.io/docs/concepts/services-networking/service/#services-without-selectors>
///
/// ```
/// use targetgate_core::model::Labels;
/// use targetgate_core::selector::selects;
///
/// let pod = Labels::from([("app".into(), "web".into()), ("tier".into(), "front".into())]);
/// assert!(selects(&Labels::from([("app".into(), "web".into())]), &pod));
/// assert!(!selects(&Labels::from([("app".into(), "api".into())]), &pod));
/// assert!(!selects(&Labels::new(), &pod));
/// ```
pub fn selects(selector: &Labels, labels: &impl LabelSet) -> bool {
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| labels.value(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| (Arc::from(*k), Arc::from(*v)))
            .collect()
    }

    #[rstest]
    #[case::every_pair_is_there(&[("app", "web")], &[("app", "web"), ("tier", "front")], true)]
    #[case::one_pair_is_missing(&[("app", "web"), ("tier", "front")], &[("app", "web")], false)]
    #[case::a_value_differs(&[("app", "web")], &[("app", "api")], false)]
    #[case::a_value_is_empty(&[("app", "")], &[("app", "")], true)]
    #[case::an_empty_value_is_not_an_absent_label(&[("app", "")], &[], false)]
    #[case::no_selector_selects_nothing(&[], &[("app", "web")], false)]
    fn a_service_selects(
        #[case] selector: &[(&str, &str)],
        #[case] pod: &[(&str, &str)],
        #[case] selected: bool,
    ) {
        assert_eq!(selects(&labels(selector), &labels(pod)), selected);
    }
}
