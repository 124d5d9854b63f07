//! What the server generates for a new object: a UID, and a name from `generateName`.

use crate::random::Random;

/// The characters of generated names, which cannot spell words. Kubernetes' alphabet.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A UUID of version 4, variant 1 (RFC 9562).
pub(super) fn uid(random: &mut Random) -> String {
    let (high, low) = (random.draw(), random.draw());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        (low >> 48) & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff,
    )
}

/// Appends five random characters to `prefix`, which is first truncated to 58 characters, as
/// Kubernetes does for `generateName`.
pub(super) fn name(random: &mut Random, prefix: &str) -> String {
    let base: String = prefix.chars().take(58).collect();
    let mut number = random.draw();
    let length = ALPHABET.len() as u64;
    let tail = (0..5).map(|_| {
        let at = (number % length) as usize;
        number /= length;
        char::from(ALPHABET[at])
    });
    base.chars().chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_names_and_another_seed_others() {
        let named = |seed| name(&mut Random::new(seed), "web-");
        assert_eq!(named(7), named(7));
        assert_ne!(named(7), named(8));
        assert_eq!(named(7).len(), 9);
    }
}
