//! Which pods a Service selects.

use std::sync::Arc;

use crate::model::Labels;

/// Labels to look a key up in, owned or borrowed from a request's body.
pub trait LabelSet {
    /// The value of a label, where it is set.
    fn value(&self, key: &str) -> Option<&str>;
}

impl LabelSet for Labels {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(Arc::as_ref)
    }
}

/// Whether a Service's selector selects a pod with these labels: every pair must be there.
///
/// An empty selector selects **nothing**: the endpoints of such a Service are written by hand.
/// Source: <https://kubernetes.io/docs/concepts/services-networking/service/#services-without-selectors>
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
