//! The page: the timeline as a moving picture in a browser. It is served on loopback, follows the
//! demo by server-sent events, and needs nothing from outside.

mod picture;
mod server;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use self::picture::Picture;
pub(super) use self::server::Server;
use super::frame::Frame;
use super::measure::Numbers;
use super::settings::Settings;

/// What the page shows now. Clones share it.
#[derive(Clone)]
pub(super) struct Page(Arc<Shared>);

struct Shared {
    picture: Mutex<Picture>,
    /// The state of the picture, by which a client knows what it has not been sent yet.
    edition: watch::Sender<Edition>,
}

/// Counts the changes of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Edition {
    /// The changes of anything.
    change: u64,
    /// The changes after which a client needs the whole picture, not only the present rollout.
    whole: u64,
    /// Whether this is the last.
    last: bool,
}

impl Page {
    /// A page of rollouts that have not begun, with these titles.
    pub(super) fn new(settings: &Settings, titles: impl IntoIterator<Item = &'static str>) -> Self {
        Self(Arc::new(Shared {
            picture: Mutex::new(Picture::new(settings, titles)),
            edition: watch::Sender::default(),
        }))
    }

    /// Shows a frame of the timeline.
    pub(super) fn show(&self, frame: &Frame) {
        let change = self.0.picture.lock().take_in(frame);
        self.0.edition.send_if_modified(|edition| {
            edition.change += u64::from(change.anything);
            edition.whole += u64::from(change.rollout);
            change.anything
        });
    }

    /// Shows the results of a rollout.
    pub(super) fn measured(&self, numbers: &Numbers) {
        self.0.picture.lock().measured(numbers);
        self.redraw();
    }

    /// Shows the differences from the expected results.
    pub(super) fn judged(&self, complaints: &[String]) {
        self.0.picture.lock().judged(complaints);
        self.redraw();
    }

    fn redraw(&self) {
        self.0.edition.send_modify(|edition| {
            edition.change += 1;
            edition.whole += 1;
        });
    }

    /// Tells all clients that no change follows.
    fn end(&self) {
        self.0.edition.send_modify(|edition| edition.last = true);
    }

    fn whole(&self) -> String {
        json(&*self.0.picture.lock())
    }

    fn present(&self) -> String {
        json(&self.0.picture.lock().present())
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data with text for keys is JSON")
}
