//! Truncation of texts from outside.

/// Truncates a text to so many bytes, at a character boundary.
///
/// ```
/// use targetgate_core::text::cut;
///
/// assert_eq!(cut("targetgate", 6), "target");
/// ```
pub fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!([cut("shop", 3), cut("shop", 9)], ["sho", "shop"]);
        assert_eq!([cut("aé", 2), cut("é", 0)], ["a", ""]);
    }
}
