//! Parses the responses of lists and watches: pages of a list, and events line by line.
//!
//! Both are parsed directly from the received bytes. kube's own calls hold a page three times, and parse an
//! event into memory that grows with the whole object.

use std::borrow::Cow;
use std::error::Error;
use std::io;

use futures::{AsyncBufRead, AsyncBufReadExt as _};
use http::Request;
use kube::Client;
use kube::core::Status;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::kubernetes::watch::failure::Failure;

/// Capacity of the line buffer that is kept for the next event. Chosen: most events are of one pod.
const KEPT_OF_LINE: usize = 64 * 1024;

/// One page of a list.
#[derive(Deserialize)]
pub(super) struct Page<O> {
    #[serde(default)]
    metadata: PageMeta,
    /// Go writes an empty list as `null`.
    items: Option<Vec<O>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PageMeta {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    token: Option<String>,
}

impl<O: DeserializeOwned> Page<O> {
    /// Requests a page. `body` is a buffer for it, which the next page reuses. Only the API server bounds a page:
    /// etcd does not store objects above 1.5 MiB.
    pub(super) async fn fetch(
        client: &Client,
        request: Request<Vec<u8>>,
        body: &mut Vec<u8>,
    ) -> Result<Self, Failure> {
        let answer = client.request_stream(request).await;
        let mut answer = answer.map_err(|error| Failure::of("list", &error))?;
        let read = read_whole(&mut answer, body).await;
        read.map_err(|error| Failure::broken("list", &error))?;
        serde_json::from_slice(body).map_err(|error| Failure::garbled(&error))
    }

    /// The continue token of the next page; `None` after the last one.
    pub(super) fn next(&mut self) -> Option<String> {
        self.metadata.token.take().filter(|token| !token.is_empty())
    }

    /// The `resourceVersion` of the list.
    pub(super) fn version(&mut self) -> String {
        self.metadata.resource_version.take().unwrap_or_default()
    }

    pub(super) fn into_items(self) -> Vec<O> {
        self.items.unwrap_or_default()
    }
}

/// Replaces the content of `body` by a whole response. `AsyncReadExt::read_to_end` would zero the spare capacity
/// each time it waits, which took a fifth of the CPU time of a start (measured).
async fn read_whole(
    answer: &mut (impl AsyncBufRead + Unpin),
    body: &mut Vec<u8>,
) -> io::Result<()> {
    body.clear();
    loop {
        let part = answer.fill_buf().await?;
        if part.is_empty() {
            return Ok(());
        }
        body.extend_from_slice(part);
        let read = part.len();
        answer.consume_unpin(read);
    }
}

/// An event of a watch.
pub(super) enum Event<O> {
    /// The object was created or changed; this is its new state.
    Applied(O),
    /// The object was deleted; this is its last state.
    Deleted(O),
    /// A bookmark: there are not further events up to the version of this object.
    Bookmark(O),
}

/// The events of one watch.
pub(super) struct Events<R> {
    answer: R,
    /// The bytes received of the next line so far.
    line: Vec<u8>,
}

/// Starts a watch.
pub(super) async fn events(
    client: &Client,
    request: Request<Vec<u8>>,
) -> Result<Events<impl AsyncBufRead + Unpin + Send + use<>>, Failure> {
    let answer = client.request_stream(request).await;
    let answer = answer.map_err(|error| Failure::of("watch", &error))?;
    Ok(Events {
        answer,
        line: vec![],
    })
}

impl<R: AsyncBufRead + Unpin> Events<R> {
    /// The next event; `None` once the watch has ended, also if its connection was cut. Cancel-safe: dropping the
    /// future does not lose bytes.
    pub(super) async fn next<O: DeserializeOwned>(&mut self) -> Result<Option<Event<O>>, Failure> {
        match self.answer.read_until(b'\n', &mut self.line).await {
            Ok(_) if self.line.is_empty() => return Ok(None),
            Ok(_) => {}
            Err(error) if is_cut(&error) => return Ok(None),
            Err(error) => return Err(Failure::broken("watch", &error)),
        }
        let whole = self.line.ends_with(b"\n");
        let read = read(&self.line);
        self.line.clear();
        self.line.shrink_to(KEPT_OF_LINE);
        match read {
            Ok(event) => event.map(Some),
            Err(error) if error.is_eof() && !whole => Ok(None),
            Err(error) => Err(Failure::garbled(&error)),
        }
    }
}

/// Parses a line: an event, or the failure that ends the watch.
fn read<O: DeserializeOwned>(line: &[u8]) -> Result<Result<Event<O>, Failure>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    let event: Line<'_> = match serde_json::from_slice(line) {
        Ok(event) => event,
        Err(error) => {
            // The line may be a bare Status instead of an event. Without a code it is not one: any JSON object
            // parses as an empty Status.
            let status = serde_json::from_slice(line).ok();
            let status = status.filter(|status: &Status| status.code != 0);
            return Ok(Err(refusal(status.ok_or(error)?)));
        }
    };
    let object = event.object.get();
    Ok(Ok(match &*event.kind {
        "ADDED" | "MODIFIED" => Event::Applied(serde_json::from_str(object)?),
        "DELETED" => Event::Deleted(serde_json::from_str(object)?),
        "BOOKMARK" => Event::Bookmark(serde_json::from_str(object)?),
        "ERROR" => return Ok(Err(refusal(serde_json::from_str(object)?))),
        _ => {
            let why = "its type is none that we know".to_owned();
            return Ok(Err(Failure::Garbled { why }));
        }
    }))
}

fn refusal(status: Status) -> Failure {
    Failure::of("watch", &kube::Error::Api(Box::new(status)))
}

/// Whether the connection was cut, as proxies and API servers do with old watches.
fn is_cut(error: &io::Error) -> bool {
    let mut cause = error.get_ref().map(|error| error as &(dyn Error + 'static));
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof)
            || error.to_string().contains("unexpected EOF during chunk")
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use futures::stream::{self, TryStreamExt as _};
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    #[tokio::test]
    async fn an_event_that_comes_in_pieces_is_waited_for_more_than_once() {
        let (mut sender, receiver) = futures::channel::mpsc::unbounded::<io::Result<&[u8]>>();
        let mut events = Events {
            answer: receiver.into_async_read(),
            line: vec![],
        };
        sender.start_send(Ok(br#"{"type":"ADDED","#)).unwrap();
        let early = futures::FutureExt::now_or_never(events.next::<Value>());
        assert!(early.is_none());
        sender.start_send(Ok(b"\"object\":7}\n{")).unwrap();
        let event = events.next::<Value>().await.unwrap();
        assert!(matches!(event, Some(Event::Applied(Value::Number(_)))));
        drop(sender);
        assert!(events.next::<Value>().await.unwrap().is_none(), "cut short");
    }

    #[rstest]
    #[case::nothing("", None)]
    #[case::no_event("[]\n", Some("line 1, column 2"))]
    #[case::no_json("}\n", Some("line 1, column 1"))]
    #[case::half_an_event("{\"type\":\n", Some("line 2, column 0"))]
    #[case::a_refusal_without_a_code("{\"kind\":\"Status\"}\n", Some("line 1, column 17"))]
    #[case::of_another_type("{\"type\":\"NEWS\",\"object\":{}}\n", Some("its type"))]
    #[tokio::test]
    async fn a_line_that_is_no_event_ends_the_watch(
        #[case] line: &str,
        #[case] garbled: Option<&str>,
    ) {
        let mut events = Events {
            answer: Cursor::new(line),
            line: vec![],
        };
        match (events.next::<Value>().await, garbled) {
            (Ok(None), None) => {}
            (Err(Failure::Garbled { why }), Some(part)) => assert!(why.contains(part), "{why}"),
            (other, _) => panic!("{line}: {:?}", other.map(|event| event.is_some())),
        }
    }

    #[rstest]
    #[case::in_a_chunk(io::Error::other("unexpected EOF during chunk size line"), true)]
    #[case::in_tls(io::Error::other(io::Error::from(io::ErrorKind::UnexpectedEof)), true)]
    #[case::reset(
        io::Error::other(io::Error::from(io::ErrorKind::ConnectionReset)),
        false
    )]
    #[tokio::test]
    async fn a_watch_whose_connection_is_cut_has_ended(
        #[case] error: io::Error,
        #[case] ended: bool,
    ) {
        let answer = stream::iter([Err::<&[u8], _>(error)]).into_async_read();
        let mut events = Events {
            answer,
            line: vec![],
        };
        let next = events.next::<Value>().await;
        assert_eq!(next.is_ok_and(|event| event.is_none()), ended);
    }
}
