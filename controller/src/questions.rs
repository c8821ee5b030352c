//! What is asked of agents, and waits for an answer.
//!
//! A question goes down the report stream of one agent and its answer comes up the same stream. Who
//! asks holds an [`Asked`] meanwhile; when the asker goes away, or the stream does, the question is
//! forgotten. An agent that does not answer cannot pile questions up: there is room for a few.

use std::collections::{BTreeMap, HashMap};

use gantry_model::agent::AgentName;
use gantry_proto::agent::v1 as pb;
use parking_lot::Mutex;
use pb::question::Ask;
use tokio::sync::{mpsc, oneshot};

/// Questions that one agent has not answered yet.
const MOST_AT_ONCE: usize = 32;

/// The questions under way, by agent.
#[derive(Debug, Default)]
pub struct Questions {
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    last_id: i64,
    agents: BTreeMap<AgentName, Line>,
}

/// One agent that reports.
#[derive(Debug)]
struct Line {
    stream: u64,
    down: mpsc::Sender<pb::Question>,
    waiting: HashMap<i64, oneshot::Sender<pb::Answer>>,
}

/// A question that was sent.
#[derive(Debug)]
pub struct Asked<'a> {
    questions: &'a Questions,
    agent: AgentName,
    id: i64,
    answer: oneshot::Receiver<pb::Answer>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    #[error("it is not connected")]
    NotThere,
    #[error("it has too many questions to answer already")]
    Busy,
    #[error("its connection ended before it answered")]
    Gone,
}

impl Questions {
    pub fn new() -> Self {
        Self::default()
    }

    /// An agent opened its report stream: gives the questions to send down. Those that an older
    /// stream of the same agent took are not answered any more.
    pub fn open(&self, agent: &AgentName, stream: u64) -> mpsc::Receiver<pb::Question> {
        let (down, questions) = mpsc::channel(MOST_AT_ONCE);
        let line = Line { stream, down, waiting: HashMap::new() };
        self.lines.lock().agents.insert(agent.clone(), line);
        questions
    }

    /// A report stream ended.
    pub fn close(&self, agent: &AgentName, stream: u64) {
        let mut lines = self.lines.lock();
        if lines.agents.get(agent).is_some_and(|line| line.stream == stream) {
            lines.agents.remove(agent);
        }
    }

    /// Asks one agent.
    pub fn ask(&self, agent: &AgentName, ask: Ask) -> Result<Asked<'_>, Unanswered> {
        let mut lines = self.lines.lock();
        lines.last_id += 1;
        let id = lines.last_id;
        let line = lines.agents.get_mut(agent).ok_or(Unanswered::NotThere)?;
        if line.waiting.len() >= MOST_AT_ONCE {
            return Err(Unanswered::Busy);
        }
        line.down.try_send(pb::Question { id, ask: Some(ask) }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unanswered::Busy,
            mpsc::error::TrySendError::Closed(_) => Unanswered::NotThere,
        })?;
        let (give, answer) = oneshot::channel();
        line.waiting.insert(id, give);
        Ok(Asked { questions: self, agent: agent.clone(), id, answer })
    }

    /// An agent answered. Nobody may be waiting any more.
    pub fn answer(&self, agent: &AgentName, answer: pb::Answer) {
        let mut lines = self.lines.lock();
        let waiting = lines.agents.get_mut(agent).and_then(|line| line.waiting.remove(&answer.id));
        drop(lines);
        if let Some(waiting) = waiting {
            // Who asked may just have gone.
            let _ = waiting.send(answer);
        }
    }
}

impl Asked<'_> {
    /// Waits for the answer, as long as the agent is connected.
    pub async fn answered(mut self) -> Result<pb::Answer, Unanswered> {
        (&mut self.answer).await.map_err(|_| Unanswered::Gone)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.questions.lines.lock().agents.get_mut(&self.agent) {
            line.waiting.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use gantry_model::agent::AgentKind;
    use pb::question::Entries;

    use super::*;

    fn agent(id: &str) -> AgentName {
        let appliance = format!("clusters/main/appliances/{id}").parse().unwrap();
        AgentName { appliance, kind: AgentKind::L4 }
    }

    fn ask() -> Ask {
        Ask::Connections(Entries { service: "x".to_owned(), ..Default::default() })
    }

    fn answer(id: i64, total_size: i64) -> pb::Answer {
        pb::Answer { id, total_size, ..Default::default() }
    }

    fn waiting(questions: &Questions) -> usize {
        questions.lines.lock().agents.values().map(|line| line.waiting.len()).sum()
    }

    #[tokio::test]
    async fn an_answer_finds_who_asked_and_comes_from_whom_was_asked() {
        let questions = Questions::new();
        let (lb1, lb2) = (agent("lb1"), agent("lb2"));
        let (mut down1, _down2) = (questions.open(&lb1, 1), questions.open(&lb2, 2));
        let (first, second) =
            (questions.ask(&lb1, ask()).unwrap(), questions.ask(&lb1, ask()).unwrap());
        let (one, other) = (down1.recv().await.unwrap(), down1.recv().await.unwrap());
        assert_ne!(one.id, other.id);
        questions.answer(&lb2, answer(one.id, 7));
        questions.answer(&lb1, answer(other.id, 2));
        questions.answer(&lb1, answer(one.id, 1));
        questions.answer(&lb1, answer(one.id, 9));
        assert_eq!(first.answered().await.unwrap().total_size, 1);
        assert_eq!(second.answered().await.unwrap().total_size, 2);
        assert_eq!(waiting(&questions), 0);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_forgotten() {
        let questions = Questions::new();
        let lb1 = agent("lb1");
        assert_eq!(questions.ask(&lb1, ask()).unwrap_err(), Unanswered::NotThere);
        let _down = questions.open(&lb1, 1);
        drop(questions.ask(&lb1, ask()).unwrap());
        assert_eq!(waiting(&questions), 0, "who asked has gone");
        let asked = questions.ask(&lb1, ask()).unwrap();
        let _newer = questions.open(&lb1, 2);
        assert_eq!(asked.answered().await.unwrap_err(), Unanswered::Gone);
        questions.close(&lb1, 1);
        let asked = questions.ask(&lb1, ask()).unwrap();
        questions.close(&lb1, 2);
        assert_eq!(asked.answered().await.unwrap_err(), Unanswered::Gone);
        assert_eq!(questions.ask(&lb1, ask()).unwrap_err(), Unanswered::NotThere);
    }

    #[tokio::test]
    async fn an_agent_that_does_not_answer_is_not_asked_without_end() {
        let questions = Questions::new();
        let lb1 = agent("lb1");
        let mut down = questions.open(&lb1, 1);
        let mut asked: Vec<_> =
            (0..MOST_AT_ONCE).map(|_| questions.ask(&lb1, ask()).unwrap()).collect();
        while down.try_recv().is_ok() {}
        assert_eq!(questions.ask(&lb1, ask()).unwrap_err(), Unanswered::Busy);
        asked.pop();
        questions.ask(&lb1, ask()).unwrap();
        drop(down);
        asked.pop();
        assert_eq!(questions.ask(&lb1, ask()).unwrap_err(), Unanswered::NotThere);
    }
}
