//! Questions to a loop about what it knows: the loop answers between two of its rounds, so that no lock is held for
//! them, and none is asked of a loop that is stuck for longer than [`PATIENCE`].

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long an answer may take. Chosen: a round of a loop takes milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// The questions that may wait for a loop. Chosen: people ask.
const WAITING: usize = 4;

/// A question about the pods and bindings of a namespace, or one pod of it.
#[derive(Debug)]
pub struct Question<T> {
    pub namespace: String,
    pub pod: Option<String>,
    answer: oneshot::Sender<T>,
}

impl<T> Question<T> {
    /// Answers it. A question whose asker has gone is passed over.
    pub fn answer(self, answer: T) {
        let _ = self.answer.send(answer);
    }
}

/// Asks a loop; cheap to clone.
#[derive(Debug)]
pub struct Asker<T>(mpsc::Sender<Question<T>>);

impl<T> Clone for Asker<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Asker<T> {
    /// What the loop knows; `None` if it does not answer in time.
    pub async fn ask(&self, namespace: &str, pod: Option<&str>) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let question = Question {
            namespace: namespace.to_owned(),
            pod: pod.map(str::to_owned),
            answer,
        };
        let asked = async {
            self.0.send(question).await.ok()?;
            answered.await.ok()
        };
        timeout(PATIENCE, asked).await.ok()?
    }
}

/// The questions to a loop.
#[derive(Debug)]
pub struct Questions<T>(mpsc::Receiver<Question<T>>);

impl<T> Questions<T> {
    /// The next question; `None` once there is no asker any more. It is cancel safe.
    pub async fn next(&mut self) -> Option<Question<T>> {
        self.0.recv().await
    }
}

/// An asker and the questions that it asks.
pub fn questions<T>() -> (Asker<T>, Questions<T>) {
    let (asker, questions) = mpsc::channel(WAITING);
    (Asker(asker), Questions(questions))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_is_stuck_or_gone_does_not_hold_up_who_asks() {
        let (asker, mut questions) = questions::<u8>();
        let began = Instant::now();
        assert_eq!(asker.ask("shop", None).await, None);
        assert_eq!(began.elapsed(), PATIENCE);
        // The question of an asker that has gone may be answered all the same.
        questions.next().await.unwrap().answer(1);
        let (answered, ()) = tokio::join!(asker.ask("shop", Some("web-0")), async {
            let question = questions.next().await.unwrap();
            let about = (&*question.namespace, question.pod.as_deref());
            assert_eq!(about, ("shop", Some("web-0")));
            question.answer(2);
        });
        assert_eq!(answered, Some(2));
        drop(questions);
        assert_eq!(asker.ask("shop", None).await, None);
    }
}
