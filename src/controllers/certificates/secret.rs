//! Converts the Secret's keys into a [`Record`], and back.
//!
//! `tls.crt`, `tls.key` and `ca.crt` are the usual keys of a Secret of type `kubernetes.io/tls`; the others are ours.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use targetgate_core::rotation::{Authority, Ca, Leaf, Pair, Record, RetiredCa};

use crate::pki::read;
use crate::pki::read::ReadError;

/// The type of a Secret's `data`.
pub(super) type Data = BTreeMap<String, ByteString>;

/// The names of the keys of a CA and its leaf.
struct Keys {
    leaf: &'static str,
    leaf_key: &'static str,
    ca: &'static str,
    ca_key: &'static str,
}

const SERVING: Keys = Keys {
    leaf: "tls.crt",
    leaf_key: "tls.key",
    ca: "ca.crt",
    ca_key: "ca.key",
};
const STAGED: Keys = Keys {
    leaf: "staged-tls.crt",
    leaf_key: "staged-tls.key",
    ca: "staged-ca.crt",
    ca_key: "staged-ca.key",
};
/// Key of the further state of a rotation, as JSON.
const ROTATION: &str = "rotation.json";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rotation {
    /// When the last leaf that the current CA signed expires.
    last_leaf_expires: Option<Timestamp>,
    former: Vec<StoredCa>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredCa {
    certificate: String,
    last_leaf_expires: Timestamp,
}

/// The readable part of a Secret.
pub(super) struct Reading {
    pub(super) record: Record,
    /// Why keys cannot be read. An absent key is not a complaint.
    pub(super) complaints: Vec<String>,
}

/// Reads a Secret. A leaf must be for all of `names`.
pub(super) fn read(data: &Data, names: &[String]) -> Reading {
    let mut complaints = vec![];
    let rotation = rotation(data, &mut complaints);
    let last_leaf = rotation.as_ref().and_then(|r| r.last_leaf_expires);
    let authority = authority(data, &SERVING, last_leaf, &mut complaints);
    let ca = authority.as_ref().map(|authority| &authority.ca);
    let leaf = leaf(data, &SERVING, ca, names, &mut complaints);
    let retired = rotation.map(|rotation| {
        let retired = rotation.former.iter();
        retired
            .filter_map(|retired| retired.read(&mut complaints))
            .collect()
    });
    let record = Record {
        leaf,
        authority,
        staged: staged(data, names, &mut complaints),
        retired,
    };
    Reading { record, complaints }
}

/// Writes a record over the previous data. Keys whose content cannot be read do not change.
pub(super) fn write(record: &Record, data: &mut Data) {
    let authority = record.authority.as_ref();
    put(data, &SERVING, record.leaf.as_ref(), authority);
    match &record.staged {
        Some(pair) => put(data, &STAGED, Some(&pair.leaf), Some(&pair.authority)),
        None => {
            let staged = [STAGED.leaf, STAGED.leaf_key, STAGED.ca, STAGED.ca_key];
            data.retain(|key, _| !staged.contains(&key.as_str()));
        }
    }
    if let Some(retired) = &record.retired {
        let rotation = Rotation {
            last_leaf_expires: authority.map(|authority| authority.last_leaf),
            former: retired.iter().map(StoredCa::of).collect(),
        };
        // Text and timestamps always have a JSON form.
        let text = serde_json::to_string(&rotation).unwrap_or_default();
        data.insert(ROTATION.to_owned(), ByteString(text.into()));
    }
    // The type kubernetes.io/tls requires these two keys, even if empty.
    for key in [SERVING.leaf, SERVING.leaf_key] {
        data.entry(key.to_owned()).or_default();
    }
}

fn put(data: &mut Data, keys: &Keys, leaf: Option<&Leaf>, authority: Option<&Authority>) {
    let mut insert = |key: &str, text: &str| {
        data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
    };
    if let Some(leaf) = leaf {
        insert(keys.leaf, &leaf.chain);
        insert(keys.leaf_key, &leaf.key.0);
    }
    if let Some(authority) = authority {
        insert(keys.ca, &authority.ca.pem);
        if let Some(key) = &authority.key {
            insert(keys.ca_key, &key.0);
        }
    }
}

fn text<'a>(data: &'a Data, key: &str) -> &'a str {
    let bytes = data.get(key).map_or(&[][..], |bytes| &bytes.0);
    // Bytes that are not UTF-8 are not PEM either.
    std::str::from_utf8(bytes).unwrap_or("?")
}

/// The value; otherwise `None`, with a complaint unless its key is empty.
fn or_complain<T>(
    data: &Data,
    key: &str,
    read: Result<T, ReadError>,
    complaints: &mut Vec<String>,
) -> Option<T> {
    read.map_err(|error| {
        if !text(data, key).is_empty() {
            complaints.push(format!("{key}: {error}"));
        }
    })
    .ok()
}

fn authority(
    data: &Data,
    keys: &Keys,
    last_leaf: Option<Timestamp>,
    complaints: &mut Vec<String>,
) -> Option<Authority> {
    let certificate = text(data, keys.ca);
    let ca = or_complain(data, keys.ca, read::ca(certificate), complaints)?;
    let more = read::certificates(certificate.as_bytes()).map_or(0, |all| all.len() - 1);
    if more > 0 {
        complaints.push(format!(
            "{}: {more} more than the one CA that counts, the first",
            keys.ca
        ));
    }
    let key = read::ca_key(certificate, text(data, keys.ca_key));
    let key = key.map_err(|error| complaints.push(format!("{}: {error}", keys.ca_key)));
    Some(Authority {
        key: key.ok(),
        last_leaf: last_leaf.unwrap_or(ca.validity.not_after),
        ca,
    })
}

fn leaf(
    data: &Data,
    keys: &Keys,
    ca: Option<&Ca>,
    names: &[String],
    complaints: &mut Vec<String>,
) -> Option<Leaf> {
    let (chain, key) = (text(data, keys.leaf), text(data, keys.leaf_key));
    let leaf = read::leaf(chain, key, ca, names);
    let leaf = or_complain(data, keys.leaf, leaf, complaints)?;
    if !leaf.signed {
        complaints.push(format!("{}: the CA beside it has not signed it", keys.leaf));
    }
    Some(leaf)
}

fn staged(data: &Data, names: &[String], complaints: &mut Vec<String>) -> Option<Pair> {
    let mut authority = authority(data, &STAGED, None, complaints)?;
    let leaf = leaf(data, &STAGED, Some(&authority.ca), names, complaints)?;
    // The staged CA has not signed other leaves yet.
    authority.last_leaf = leaf.validity.not_after;
    Some(Pair { authority, leaf })
}

fn rotation(data: &Data, complaints: &mut Vec<String>) -> Option<Rotation> {
    let text = text(data, ROTATION);
    serde_json::from_str(text)
        .map_err(|_| {
            if !text.is_empty() {
                complaints.push(format!("{ROTATION}: it is not what we have written"));
            }
        })
        .ok()
}

impl StoredCa {
    fn of(retired: &RetiredCa) -> Self {
        Self {
            certificate: retired.ca.pem.as_ref().to_owned(),
            last_leaf_expires: retired.last_leaf,
        }
    }

    fn read(&self, complaints: &mut Vec<String>) -> Option<RetiredCa> {
        let ca = read::ca(&self.certificate);
        let ca = ca.map_err(|error| complaints.push(format!("{ROTATION}: a retired CA: {error}")));
        Some(RetiredCa {
            ca: ca.ok()?,
            last_leaf: self.last_leaf_expires,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;
    use targetgate_core::rotation::{Configuration, Lifetimes, Situation, Step, next, pem};

    use super::*;
    use crate::controllers::certificates::make::Maker;
    use crate::pki::read;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn maker() -> Maker {
        Maker {
            service: "targetgate".into(),
            names: vec!["targetgate.shop.svc".into()],
            lifetimes: Lifetimes::default(),
        }
    }

    /// A record after two rotations, with a third one staged.
    fn record() -> Record {
        let pair = || maker().pair(NOW).unwrap();
        let first = Record::new(pair()).promoted();
        let second = first.staged(pair()).promoted();
        second.staged(pair())
    }

    fn written(record: &Record) -> Data {
        let mut data = Data::new();
        write(record, &mut data);
        data
    }

    #[test]
    fn what_is_written_is_read_again() {
        let record = record();
        let reading = read(&written(&record), &maker().names);
        assert_eq!(reading.record, record);
        assert!(reading.complaints.is_empty(), "{:?}", reading.complaints);
        let new = Record::new(maker().pair(NOW).unwrap());
        let data = written(&new);
        assert_eq!(data["tls.crt"].0, b"", "its type asks for it");
        let reading = read(&data, &maker().names);
        assert_eq!(reading.record, new);
        assert!(reading.complaints.is_empty(), "{:?}", reading.complaints);
    }

    #[test]
    fn what_was_staged_is_gone_once_it_is_served() {
        let mut data = written(&record());
        write(&record().promoted(), &mut data);
        let staged = data.keys().filter(|key| key.starts_with("staged"));
        assert_eq!(staged.count(), 0);
    }

    #[rstest]
    #[case("tls.crt", |r: &mut Record| r.leaf = None)]
    #[case("tls.key", |r: &mut Record| r.leaf = None)]
    #[case("ca.key", |r: &mut Record| r.authority.as_mut().unwrap().key = None)]
    #[case("staged-tls.key", |r: &mut Record| r.staged = None)]
    #[case("staged-ca.crt", |r: &mut Record| r.staged = None)]
    #[case("staged-ca.key", |r: &mut Record| r.staged.as_mut().unwrap().authority.key = None)]
    fn nonsense_in_one_key_is_told_and_harms_no_other(
        #[case] key: &str,
        #[case] expected: fn(&mut Record),
        #[values("", "nonsense", "\u{0}")] nonsense: &str,
    ) {
        let mut record = record();
        let mut data = written(&record);
        data.insert(key.to_owned(), ByteString(nonsense.into()));
        let reading = read(&data, &maker().names);
        expected(&mut record);
        assert_eq!(reading.record, record);
        let told = !nonsense.is_empty();
        assert!(!told || !reading.complaints.is_empty());
    }

    #[test]
    fn without_our_notes_the_ca_is_kept_for_as_long_as_it_may_matter() {
        let record = record();
        let mut data = written(&record);
        data.insert(ROTATION.to_owned(), ByteString(b"{}".to_vec()));
        let reading = read(&data, &maker().names).record;
        assert_eq!(reading.retired, None);
        let authority = reading.authority.as_ref().unwrap();
        assert_eq!(authority.last_leaf, authority.ca.validity.not_after);
        // Writing keeps the unreadable key, so that an operator can repair it.
        write(&reading, &mut data);
        assert_eq!(data[ROTATION].0, b"{}");
    }

    /// What other clients may write beside a CA's certificate, or in its place.
    fn embellished(text: &str, other: &str, how: usize) -> String {
        match how {
            0 => text.to_owned(),
            1 => format!("{text}{other}"),
            2 => format!("subject=CN = by hand\n{text}"),
            3 => text.replace('\n', "\r\n"),
            4 => format!("{text}{text}"),
            5 => format!("{}\n\n", text.trim_end()),
            _ => "nonsense".to_owned(),
        }
    }

    #[rstest]
    fn a_bundle_of_what_was_read_is_what_the_rules_want(
        #[values(0, 1, 2, 3, 4, 5, 6)] serving: usize,
        #[values(0, 1, 2, 3, 4, 5, 6)] staged: usize,
        #[values(0, 1, 2, 3, 4, 5, 6)] retired: usize,
    ) {
        let other = maker().pair(NOW).unwrap().authority.ca.pem;
        let mut record = record();
        for old in record.retired.iter_mut().flatten() {
            old.ca.pem = embellished(&old.ca.pem, &other, retired).into();
        }
        let mut data = written(&record);
        for (key, how) in [("ca.crt", serving), ("staged-ca.crt", staged)] {
            let text = embellished(text(&data, key), &other, how);
            data.insert(key.to_owned(), ByteString(text.into()));
        }
        let read = super::read(&data, &maker().names).record;
        let trusted = read.trusted();
        let bundle = read::bundle(pem(&trusted).as_bytes());
        let bundles = vec![bundle; 2];
        let configuration = Configuration {
            bundles,
            unchanged_for: Duration::from_secs(3600),
        };
        let situation = Situation {
            now: NOW,
            record: Some(&read),
            configurations: Some(&[configuration]),
            remembered: &[],
        };
        let step = next(&situation, &Lifetimes::default());
        assert!(
            !matches!(step, Step::Trust(_)),
            "{step:?} for ever: {trusted:?}"
        );
    }

    #[test]
    fn a_second_ca_in_the_secret_is_told_and_does_not_count() {
        let record = record();
        let mut data = written(&record);
        let other = maker().pair(NOW).unwrap().authority.ca.pem;
        let both = format!("{}{other}", text(&data, "ca.crt"));
        data.insert("ca.crt".to_owned(), ByteString(both.into()));
        let reading = read(&data, &maker().names);
        assert_eq!(reading.record, record);
        let told = ["ca.crt: 1 more than the one CA that counts, the first"];
        assert_eq!(reading.complaints, told);
    }

    #[test]
    fn a_leaf_of_somebody_else_is_read_and_told() {
        let mut data = written(&record());
        let (other, mut foreign) = (record(), Data::new());
        write(&other, &mut foreign);
        for key in ["tls.crt", "tls.key"] {
            data.insert(key.to_owned(), foreign[key].clone());
        }
        let reading = read(&data, &maker().names);
        assert!(!reading.record.leaf.unwrap().signed);
        assert_eq!(reading.complaints.len(), 1, "{:?}", reading.complaints);
    }
}
