//! Prunes JSON to the members that are parsed, before serde parses it.
//!
//! Nine tenths of a pod's review are not needed. serde_json validates every byte that it skips, which was most of the
//! cost of the hook (measured); this module distinguishes only strings and brackets, in half of
//! that time. serde validates the members that are kept. The pruned members are not validated: the API server wrote
//! them, and applies our patch to its own copy.

mod blocks;

use crate::admission::prune_json::blocks::Blocks;

/// A member of an object by its name, and the part of its value that is kept.
pub(super) type Member = (&'static str, Keep);

/// The part of a value that is kept.
#[derive(Debug)]
pub(super) enum Keep {
    /// The whole value.
    Whole,
    /// These members of an object; the whole of another value.
    Only(&'static [Member]),
    /// This part of each item of a list; the whole of another value.
    Each(&'static Keep),
}

/// Initial capacity of the pruned JSON, in bytes. Chosen: it suffices for most reviews.
const USUAL: usize = 2048;

/// Prunes JSON to the members that `keep` names.
///
/// `None` if this is not possible: for text that is not JSON, for more than one value, and for a member name with an
/// escape, which may be a name to keep. Then the caller parses the whole text.
pub(super) fn prune(json: &[u8], keep: &Keep) -> Option<Vec<u8>> {
    let mut reader = Reader {
        json,
        at: 0,
        blocks: Blocks::new(json)?,
    };
    let mut kept = Vec::with_capacity(USUAL);
    reader.keep(keep, &mut kept)?;
    reader.skip_space();
    (reader.at == json.len()).then_some(kept)
}

/// Reads JSON from its beginning to its end; every step is `None` if the JSON is truncated or broken.
struct Reader<'a> {
    json: &'a [u8],
    at: usize,
    blocks: Blocks<'a>,
}

impl<'a> Reader<'a> {
    /// Copies the part of the next value that is kept.
    ///
    /// Recursion is as deep as `keep`, never as deep as the JSON.
    fn keep(&mut self, keep: &Keep, kept: &mut Vec<u8>) -> Option<()> {
        self.skip_space();
        match keep {
            Keep::Only(members) if self.peek()? == b'{' => self.keep_members(members, kept),
            Keep::Each(item) if self.peek()? == b'[' => self.keep_items(item, kept),
            _ => {
                kept.extend_from_slice(self.value()?);
                Some(())
            }
        }
    }

    fn keep_members(&mut self, members: &[(&str, Keep)], kept: &mut Vec<u8>) -> Option<()> {
        self.expect(b'{')?;
        kept.push(b'{');
        let begin = kept.len();
        self.skip_space();
        if self.peek()? != b'}' {
            loop {
                self.keep_member(members, begin, kept)?;
                self.skip_space();
                if self.peek()? == b'}' {
                    break;
                }
                self.expect(b',')?;
            }
        }
        self.expect(b'}')?;
        kept.push(b'}');
        Some(())
    }

    fn keep_items(&mut self, item: &Keep, kept: &mut Vec<u8>) -> Option<()> {
        self.expect(b'[')?;
        kept.push(b'[');
        self.skip_space();
        if self.peek()? != b']' {
            loop {
                self.keep(item, kept)?;
                self.skip_space();
                if self.peek()? == b']' {
                    break;
                }
                self.expect(b',')?;
                kept.push(b',');
            }
        }
        self.expect(b']')?;
        kept.push(b']');
        Some(())
    }

    fn keep_member(
        &mut self,
        members: &[(&str, Keep)],
        begin: usize,
        kept: &mut Vec<u8>,
    ) -> Option<()> {
        self.skip_space();
        let name = self.name()?;
        self.skip_space();
        self.expect(b':')?;
        let of_name = |(kept, _): &&(&str, Keep)| kept.as_bytes() == name;
        let Some((_, keep)) = members.iter().find(of_name) else {
            self.skip_space();
            return self.value().map(drop);
        };
        if kept.len() > begin {
            kept.push(b',');
        }
        kept.push(b'"');
        kept.extend_from_slice(name);
        kept.extend_from_slice(b"\":");
        self.keep(keep, kept)
    }

    /// A member's name, without its quotes; `None` if it has an escape.
    fn name(&mut self) -> Option<&'a [u8]> {
        let begin = self.at + 1;
        self.skip_string()?;
        let name = &self.json[begin..self.at - 1];
        // Unlike `contains`, a fold has no branch for each byte.
        let escaped = name.iter().fold(false, |any, byte| any | (*byte == b'\\'));
        (!escaped).then_some(name)
    }

    /// The text of the next value.
    fn value(&mut self) -> Option<&'a [u8]> {
        let begin = self.at;
        match self.peek()? {
            b'"' => self.skip_string()?,
            b'{' | b'[' => self.at = self.blocks.closing(begin)? + 1,
            b'}' | b']' => return None,
            _ => self.skip_word(),
        }
        (self.at > begin).then(|| &self.json[begin..self.at])
    }

    fn skip_string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        self.at = self.blocks.quote(self.at)? + 1;
        Some(())
    }

    /// Skips a number, `true`, `false` or `null`.
    fn skip_word(&mut self) {
        let ends = |byte: &u8| {
            matches!(byte, b',' | b'}' | b']' | b':' | b'"') || byte.is_ascii_whitespace()
        };
        let rest = &self.json[self.at..];
        self.at += rest.iter().position(ends).unwrap_or(rest.len());
    }

    fn skip_space(&mut self) {
        while self.json.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Map, Value, json};

    use super::*;

    const KEPT: Keep = Keep::Only(&[
        ("a", Keep::Whole),
        (
            "b",
            Keep::Only(&[("a", Keep::Whole), ("c", Keep::Only(&[]))]),
        ),
        ("d", Keep::Each(&Keep::Only(&[("a", Keep::Whole)]))),
    ]);

    fn condensed(json: &str) -> Option<String> {
        let kept = prune(json.as_bytes(), &KEPT)?;
        Some(String::from_utf8(kept).unwrap())
    }

    #[rstest]
    #[case::nothing_to_keep(r#"{"x":1,"y":[{"a":2}]}"#, "{}")]
    #[case::a_member(r#"{"x":1,"a":{"x":[1,"]"]},"y":2}"#, r#"{"a":{"x":[1,"]"]}}"#)]
    #[case::members_of_a_member(
        r#"{"b":{"x":{},"a":1,"c":{"a":5}},"a":2}"#,
        r#"{"b":{"a":1,"c":{}},"a":2}"#
    )]
    #[case::a_member_twice(r#"{"a":1,"x":0,"a":2}"#, r#"{"a":1,"a":2}"#)]
    #[case::no_object_where_one_belongs(r#"{"b":["x",1],"x":0}"#, r#"{"b":["x",1]}"#)]
    #[case::items(r#"{"d":[{"x":1,"a":2},{},{"x":[3]}]}"#, r#"{"d":[{"a":2},{},{}]}"#)]
    #[case::no_items(r#"{"d":[ ]}"#, r#"{"d":[]}"#)]
    #[case::items_that_are_no_objects(
        r#"{"d":[1,"]",null,[{"x":1}]]}"#,
        r#"{"d":[1,"]",null,[{"x":1}]]}"#
    )]
    #[case::no_list_where_one_belongs(r#"{"d":{"x":1},"x":0}"#, r#"{"d":{"x":1}}"#)]
    #[case::null(r#"{"b":null,"x":null}"#, r#"{"b":null}"#)]
    #[case::no_object_at_all("[1]", "[1]")]
    #[case::quotes_and_brackets_in_texts(r#"{"x":"\"}]\\","a":"{\"b\":["}"#, r#"{"a":"{\"b\":["}"#)]
    #[case::space(
        "{ \"x\" : [ 1 ] ,\n\"a\" : 1.5e3 , \"b\" : { \"a\" : true } }\n",
        r#"{"a":1.5e3,"b":{"a":true}}"#
    )]
    #[case::empty("{}", "{}")]
    fn what_is_kept(#[case] json: &str, #[case] kept: &str) {
        assert_eq!(condensed(json).as_deref(), Some(kept));
    }

    #[rstest]
    #[case::nothing("")]
    #[case::cut_off(r#"{"a":1"#)]
    #[case::cut_off_in_a_text(r#"{"a":"x\"#)]
    #[case::cut_off_in_brackets(r#"{"x":[{"#)]
    #[case::a_name_that_may_be_one_to_keep(r#"{"\u0061":1}"#)]
    #[case::more_than_one_value("{} {}")]
    #[case::no_name("{1:2}")]
    #[case::no_value(r#"{"x":}"#)]
    #[case::no_colon(r#"{"x" 1}"#)]
    #[case::no_comma(r#"{"x":1 "a":2}"#)]
    #[case::a_comma_too_many(r#"{"a":1,}"#)]
    #[case::no_comma_between_items(r#"{"d":[1 2]}"#)]
    #[case::a_comma_after_the_items(r#"{"d":[1,]}"#)]
    #[case::cut_off_in_an_item(r#"{"d":[{"a":1},{"x""#)]
    #[case::a_backslash_that_is_in_no_text(r#"{"x":["],"a":1}"#)]
    fn what_is_left_to_serde(#[case] json: &str) {
        assert_eq!(condensed(json), None);
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert_eq!(condensed(&deep).as_deref(), Some("{}"));
    }

    /// [`prune`] on parsed values.
    fn cut(value: &Value, keep: &Keep) -> Value {
        let (members, object) = match (keep, value) {
            (Keep::Only(members), Value::Object(object)) => (members, object),
            (Keep::Each(item), Value::Array(items)) => {
                return items.iter().map(|value| cut(value, item)).collect();
            }
            _ => return value.clone(),
        };
        let kept = members
            .iter()
            .filter_map(|(name, keep)| Some(((*name).to_owned(), cut(object.get(*name)?, keep))));
        Value::Object(kept.collect::<Map<_, _>>())
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            r#"["\\\[\]{},:]{0,8}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            let name = prop_oneof!["[abcdx]", r#"["\\{}]{1,3}"#];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn of_any_json_exactly_what_is_to_be_kept_is(value in any_value(), pretty: bool) {
            let json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            // A name with an escape is left to serde.
            if let Some(kept) = condensed(&json.unwrap()) {
                let kept: Value = serde_json::from_str(&kept).unwrap();
                prop_assert_eq!(kept, cut(&value, &KEPT));
            }
        }

        #[test]
        fn no_bytes_stop_it(bytes: Vec<u8>, text in r#"["\\{}\[\]:, abx1]{0,40}"#) {
            let _ = prune(&bytes, &KEPT);
            let _ = prune(text.as_bytes(), &KEPT);
        }
    }
}
