//! Values that are kept of every pod, in little memory.

use std::sync::Arc;

use jiff::Timestamp;

/// A UID. Kubernetes makes UUIDs, of which the 16 bytes are kept and not the 36 characters; any other text is kept as it
/// is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackedUid {
    Uuid([u8; 16]),
    Text(Arc<str>),
}

impl PackedUid {
    /// Packs a UID.
    pub fn of(uid: &Arc<str>) -> Self {
        let number = u128::from_str_radix(&uid.replace('-', ""), 16);
        let number = number.ok().filter(|number| uuid(*number) == **uid);
        number.map_or_else(
            || Self::Text(uid.clone()),
            |number| Self::Uuid(number.to_be_bytes()),
        )
    }

    /// The UID as it was.
    pub fn text(&self) -> Arc<str> {
        match self {
            Self::Uuid(bytes) => uuid(u128::from_be_bytes(*bytes)).into(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// A UUID as Kubernetes writes it.
fn uuid(number: u128) -> String {
    let digits = |from: u32, mask: u128| (number >> from) & mask;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        digits(96, 0xffff_ffff),
        digits(80, 0xffff),
        digits(64, 0xffff),
        digits(48, 0xffff),
        digits(0, 0xffff_ffff_ffff),
    )
}

/// A time that may be unknown, in a third of what an `Option<Timestamp>` takes: nanoseconds since 1970, which reach from
/// 1677 to 2262. A time beyond is the nearest of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedTime(i64);

impl PackedTime {
    const UNKNOWN: i64 = i64::MIN;

    /// Packs a time.
    pub fn of(time: Option<Timestamp>) -> Self {
        let nanoseconds = time.map(|time| {
            let nanoseconds = time.as_nanosecond();
            let nearest = if nanoseconds < 0 { -i64::MAX } else { i64::MAX };
            i64::try_from(nanoseconds).unwrap_or(nearest)
        });
        Self(nanoseconds.unwrap_or(Self::UNKNOWN))
    }

    /// The time; `None` if it is unknown.
    pub fn time(self) -> Option<Timestamp> {
        let known = (self.0 != Self::UNKNOWN).then_some(self.0)?;
        Timestamp::from_nanosecond(known.into()).ok()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::of_kubernetes("3f1a09cc-8d2e-4b7a-9c55-0a1b2c3d4e5f", true)]
    #[case::of_zeros("00000000-0000-0000-0000-000000000000", true)]
    #[case::in_capitals("3F1A09CC-8D2E-4B7A-9C55-0A1B2C3D4E5F", false)]
    #[case::without_dashes("3f1a09cc8d2e4b7a9c550a1b2c3d4e5f", false)]
    #[case::with_a_sign("+f1a09cc-8d2e-4b7a-9c55-0a1b2c3d4e5f", false)]
    #[case::of_a_static_pod("b3c1f0e2a4d5968778695a4b3c2d1e0f", false)]
    #[case::of_a_test("uid-web-1", false)]
    #[case::empty("", false)]
    fn a_uid_is_kept_as_it_was_written(#[case] uid: &str, #[case] packed: bool) {
        let kept = PackedUid::of(&uid.into());
        assert_eq!(&*kept.text(), uid);
        assert_eq!(matches!(kept, PackedUid::Uuid(_)), packed);
        assert_eq!(kept, PackedUid::of(&uid.into()));
    }

    #[rstest]
    #[case::as_kubernetes_writes_it("2026-03-01T10:11:12Z")]
    #[case::with_a_fraction("2026-03-01T10:11:12.123456789Z")]
    #[case::of_the_beginning("1970-01-01T00:00:00Z")]
    #[case::before_it("1901-01-01T00:00:00Z")]
    fn a_time_is_kept_as_it_is(#[case] time: &str) {
        let time = Some(time.parse().unwrap());
        assert_eq!(PackedTime::of(time).time(), time);
    }

    #[test]
    fn a_time_that_is_unknown_or_far_away_is_none_or_near() {
        assert_eq!(PackedTime::of(None).time(), None);
        let last = PackedTime::of(Some(Timestamp::MAX)).time().unwrap();
        assert!(last.to_string().starts_with("2262-"), "{last}");
        let first = PackedTime::of(Some(Timestamp::MIN)).time().unwrap();
        assert!(first.to_string().starts_with("1677-"), "{first}");
    }
}
