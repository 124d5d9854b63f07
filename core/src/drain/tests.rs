//! The words and numbers of label, annotations and flags.

use rstest::rstest;

use super::*;

#[rstest]
#[case("alb=20,nlb=100", Some((20, 100)))]
#[case("nlb=45,alb=600", Some((600, 45)))]
#[case("alb=1", Some((1, 100)))]
#[case("nlb=1", Some((20, 1)))]
#[case("", None)]
#[case("20", None)]
#[case("alb", None)]
#[case("alb=", None)]
#[case("alb=0", None)]
#[case("alb=601", None)]
#[case("alb=+5", None)]
#[case("alb=20s", None)]
#[case("alb=20,", None)]
#[case("alb=20, nlb=100", None)]
#[case("alb=20,alb=30", None)]
#[case("gwlb=20", None)]
fn the_seconds_of_each_kind_are_1_to_600(#[case] text: &str, #[case] read: Option<(u16, u16)>) {
    let seconds = text.parse::<DrainSeconds>();
    let numbers = seconds.ok().map(|s| (s.alb.get(), s.nlb.get()));
    assert_eq!(numbers, read);
}

#[test]
fn an_error_shows_an_example() {
    let error = "alb=0".parse::<DrainSeconds>().unwrap_err().to_string();
    assert!(error.contains("alb=20,nlb=100"), "{error}");
}

#[rstest]
#[case("1", Some(1))]
#[case("600", Some(600))]
#[case("0", None)]
#[case("601", None)]
#[case("-1", None)]
#[case("+1", None)]
#[case("1.5", None)]
#[case("20s", None)]
#[case("", None)]
#[case("99999", None)]
fn a_sleep_is_1_to_600_seconds(#[case] text: &str, #[case] read: Option<u16>) {
    let seconds = text.parse::<SleepSeconds>();
    assert_eq!(seconds.ok().map(SleepSeconds::get), read);
}

#[rstest]
#[case("20/30", Some((20, 30)))]
#[case("600/9223372036854775807", Some((600, i64::MAX)))]
#[case("20/0", None)]
#[case("20/-5", None)]
#[case("20/+5", None)]
#[case("0/30", None)]
#[case("20/9223372036854775808", None)]
#[case("20", None)]
#[case("20/30/1", None)]
#[case("", None)]
fn what_was_done_is_two_numbers(#[case] text: &str, #[case] read: Option<(u16, i64)>) {
    let drained = text.parse::<Drained>();
    assert_eq!(drained.ok().map(|d| (d.sleep.get(), d.given)), read);
}

#[test]
fn words_are_written_as_they_are_read() {
    for mode in DrainMode::ALL {
        assert_eq!(mode.to_string().parse(), Ok(mode));
    }
    for text in ["alb=20,nlb=100", "alb=1,nlb=600"] {
        assert_eq!(text.parse::<DrainSeconds>().unwrap().to_string(), text);
    }
    assert_eq!(DrainSeconds::default().to_string(), "alb=20,nlb=100");
    assert_eq!("20/30".parse::<Drained>().unwrap().to_string(), "20/30");
}

#[test]
fn the_grace_of_sleep_and_given_saturates() {
    let drained = |given| Drained {
        sleep: SleepSeconds(20),
        given,
    };
    assert_eq!(drained(30).grace(), 50);
    assert_eq!(drained(i64::MAX).grace(), i64::MAX);
}

#[test]
fn a_protocol_says_which_load_balancer_uses_the_group() {
    let kind = |protocol| LoadBalancerKind::of_protocol(protocol).map(LoadBalancerKind::as_str);
    assert_eq!(["HTTP", "HTTPS"].map(kind), [Some("alb"); 2]);
    let network = ["TCP", "UDP", "TCP_UDP", "TLS", "QUIC", "TCP_QUIC"];
    assert_eq!(network.map(kind), [Some("nlb"); 6]);
    assert_eq!(["GENEVE", "", "http", "SCTP"].map(kind), [None; 4]);
}
