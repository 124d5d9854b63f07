//! Truncation of texts from outside, and numbers in sentences.

use std::fmt::Display;

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

/// A number with its noun, whose plural is regular.
///
/// ```
/// use targetgate_core::text::counted;
///
/// assert_eq!(counted(1, "load balancer"), "1 load balancer");
/// assert_eq!(counted(0, "load balancer"), "0 load balancers");
/// ```
pub fn counted<N: Number>(number: N, noun: &str) -> String {
    format!("{number} {noun}{}", agreeing(number, "", "s"))
}

/// The words that agree with a number.
///
/// ```
/// use targetgate_core::text::agreeing;
///
/// assert_eq!(agreeing(1, "pod is", "pods are"), "pod is");
/// assert_eq!(agreeing(2, "pod is", "pods are"), "pods are");
/// ```
pub fn agreeing<N: Number>(number: N, one: &'static str, many: &'static str) -> &'static str {
    if number == N::from(1) { one } else { many }
}

/// A number of things.
pub trait Number: Display + PartialEq + From<u8> + Copy {}

impl<N: Display + PartialEq + From<u8> + Copy> Number for N {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!([cut("shop", 3), cut("shop", 9)], ["sho", "shop"]);
        assert_eq!([cut("aé", 2), cut("é", 0)], ["a", ""]);
    }

    #[test]
    fn one_thing_is_told_in_the_singular() {
        let pods = [0_u32, 1, 2].map(|number| counted(number, "pod"));
        assert_eq!(pods, ["0 pods", "1 pod", "2 pods"]);
    }
}
