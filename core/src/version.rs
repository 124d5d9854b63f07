//! Which of two versions of an object is the older one.

/// Whether a `resourceVersion` is older than another. Versions of one object are growing numbers; if one of
/// them is not a number, neither is known to be older.
/// Source: <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>
pub fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("9", "10", true)]
    #[case("10", "9", false)]
    #[case("10", "10", false)]
    #[case("a", "b", false)]
    fn versions_are_compared_as_numbers(
        #[case] version: &str,
        #[case] than: &str,
        #[case] older: bool,
    ) {
        assert_eq!(is_older(version, than), older);
    }
}
