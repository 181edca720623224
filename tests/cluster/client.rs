//! A client that takes and gives locks of every kind, by whichever node it reaches, and writes down what it is
//! told.

#[path = "requests.rs"]
mod requests;

use std::time::{Duration, Instant};

use super::judge::{Event, Holder, Key, LONG};
use super::line::{Line, Lost};
use super::world::{Dice, World};
use crate::common::history::Held;

pub const KEYS: usize = 12;

/// Of sessions that end in a trial. Twice as long as their client waits for an answer: so it hears in time that it
/// cannot rely on its locks.
const SHORT: Duration = Duration::from_secs(4);

/// How long a client waits for an answer before it tries another node; the longest wait for a lock is a small
/// part of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A pause between two requests, so that many clients fit into a small machine.
const PACE: Duration = Duration::from_millis(2);

/// How often `conn_id` is tried while the session is still connected, before it is taken over.
const TRIES: usize = 20;

/// So many questions are not answered, at the most.
const MANY: usize = 50;

pub struct Client<'a> {
    number: usize,
    world: &'a World,
    dice: Dice,
    grace: Duration,
    session: Option<Session>,
    /// This connection speaks for the session.
    is_resumed: bool,
    keys: [Mine; KEYS],
    /// A connection that did not answer, while the session has gone on by another one: with so many answers that
    /// may come still, to what was asked before that.
    left_behind: Option<(Line, usize)>,
    /// A connection beside the others, on which it asks for what owners of its have given back.
    aside: Option<Line>,
}

struct Session {
    holder: Holder,
    id: String,
    /// When that was sent which was answered last.
    answered: Instant,
}

/// What a client knows of a key, so that it knows what to ask. The judge knows it better.
#[derive(Debug, Clone)]
struct Mine {
    by: By,
    held: Held,
    knows: Knows,
    /// A lease ends soon: that it has it says nothing of the next moment.
    ends: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knows {
    Free,
    Open,
    Has,
}

/// By whom it has it, or had it the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Session,
    /// By the word that is made of this.
    Owner(Holder),
}

impl<'a> Client<'a> {
    pub fn new(number: usize, world: &'a World, seed: u64) -> Self {
        let mine = Mine {
            by: By::Session,
            held: Held::Alone,
            knows: Knows::Free,
            ends: false,
        };
        Self {
            number,
            world,
            dice: Dice(seed.wrapping_mul(1000).wrapping_add(number as u64)),
            grace: match number / 3 % 3 {
                0 => SHORT,
                _ => LONG,
            },
            session: None,
            is_resumed: false,
            keys: std::array::from_fn(|_| mine.clone()),
            left_behind: None,
            aside: None,
        }
    }

    /// Goes on until the trial is over. Each client has a node at which it tries first.
    pub fn run(&mut self) {
        let nodes = self.world.nodes.clone();
        let mut tries = 0;
        while !self.world.is_over() {
            let node = nodes[(self.number + tries) % nodes.len()];
            let Ok(mut line) = Line::open(node, PATIENCE) else {
                tries += 1;
                std::thread::sleep(PACE);
                continue;
            };
            match self.serve(&mut line) {
                Ok(()) => break,
                Err(lost) => {
                    let was_resumed = self.is_resumed;
                    self.cut();
                    self.world.is_cut(self.number);
                    // One that asks for the session still may get it back.
                    if lost == Lost::Silent && was_resumed && self.left_behind.is_none() {
                        let unanswered = line.unanswered();
                        self.left_behind = Some((line, unanswered));
                    }
                    // Sometimes the same node again.
                    tries = match self.dice.below(4) {
                        0 => 0,
                        _ => tries + 1,
                    };
                }
            }
        }
        self.world.is_gone(self.number);
    }

    fn serve(&mut self, line: &mut Line) -> Result<(), Lost> {
        self.come_back(line)?;
        while !self.world.is_last() {
            if self.world.is_over() {
                return Ok(());
            }
            self.step(line)?;
            std::thread::sleep(PACE);
        }
        for key in 0..KEYS {
            while self.keys[key].knows != Knows::Free {
                self.unlock(line, key)?;
            }
        }
        Ok(())
    }

    /// The connection is gone: what it relied on it may have lost, if it had it by a session that ends.
    fn cut(&mut self) {
        self.is_resumed = false;
        if let Some(session) = &self.session {
            let holder = session.holder;
            self.world.write(Event::Cut { holder });
        }
        for mine in self.keys.iter().filter(|mine| mine.knows != Knows::Free) {
            if let By::Owner(holder) = mine.by {
                self.world.write(Event::Cut { holder });
            }
        }
    }

    // ------------------------------------------------------------------------------ coming back

    /// Resumes the session, or begins one, and looks whether all is as it was told.
    fn come_back(&mut self, line: &mut Line) -> Result<(), Lost> {
        self.is_resumed = self.resume(line)?;
        match self.is_resumed {
            true => {
                for key in 0..KEYS {
                    self.look_as(line, key, By::Session)?;
                }
            }
            false => {
                self.session_is_over();
                self.begin(line)?;
            }
        }
        for key in 0..KEYS {
            if self.keys[key].by != By::Session {
                self.look(line, key)?;
            }
        }
        if self.aside.is_none() {
            let node = self.world.nodes[self.number % self.world.nodes.len()];
            let aside = Line::open(node, PATIENCE);
            self.aside = aside
                .and_then(|mut line| line.be_impatient().map(|()| line))
                .ok();
        }
        self.ask_behind()
    }

    /// Whether its session is there still.
    fn resume(&mut self, line: &mut Line) -> Result<bool, Lost> {
        let Some(id) = self.session.as_ref().map(|session| session.id.clone()) else {
            return Ok(false);
        };
        let by_conn_id = if self.dice.below(2) == 0 { TRIES } else { 0 };
        for _ in 0..by_conn_id {
            let answer = self.ask(line, &format!("conn_id {id}"))?;
            match answer.as_str() {
                "200 conn id set" => return Ok(true),
                "403 cannot set conn id" => return Ok(false),
                "403 cannot set conn id: still connected" => std::thread::sleep(PACE),
                // It is resumed, or can be.
                _ => self.refuses(&answer, "conn_id")?,
            }
        }
        loop {
            let answer = self.ask(line, &format!("resume {id}"))?;
            match answer.as_str() {
                "200 Resumed" => return Ok(true),
                "403 unknown" => return Ok(false),
                _ => self.refuses(&answer, "resume")?,
            }
        }
    }

    fn session_is_over(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        let (holder, silent) = (session.holder, session.answered.elapsed());
        self.world.write(Event::Over { holder, silent });
        for mine in &mut self.keys {
            if mine.by == By::Session {
                mine.knows = Knows::Free;
            }
        }
        self.left_behind = None;
    }

    fn begin(&mut self, line: &mut Line) -> Result<(), Lost> {
        let grace = format!("set_timeout {}", self.grace.as_millis());
        self.expect(line, &grace, "200 timeout set")?;
        let id = loop {
            let answer = self.ask(line, "conn_id")?;
            match answer.strip_prefix("200 ") {
                Some(id) => break id.to_owned(),
                None => self.refuses(&answer, "conn_id")?,
            }
        };
        self.session = Some(Session {
            holder: self.world.new_holder(self.grace),
            id,
            answered: line.answered.unwrap_or_else(Instant::now),
        });
        self.is_resumed = true;
        Ok(())
    }

    /// Asks the connection that was left behind for what the session has surely given back by now, or has by
    /// another connection: nobody may say there that it has it.
    fn ask_behind(&mut self) -> Result<(), Lost> {
        if let Some((behind, _)) = &mut self.left_behind {
            let asked = (0..KEYS).try_for_each(|key| behind.send(&format!("token k{key}")));
            if asked.and_then(|()| behind.be_impatient()).is_err() {
                self.left_behind = None;
            }
        }
        Ok(())
    }

    fn listen_behind(&mut self) {
        let Some((behind, old)) = &mut self.left_behind else {
            return;
        };
        loop {
            match behind.read() {
                Ok(_) if *old > 0 => *old -= 1,
                Ok(answer) if answer.starts_with("200 ") => {
                    let holder = self.session.as_ref().map_or(0, |session| session.holder);
                    let what = answer;
                    self.world.write(Event::AnsweredBehind { holder, what });
                }
                Ok(_) => {}
                Err(Lost::Silent) => return,
                Err(Lost::Closed) => {
                    self.left_behind = None;
                    return;
                }
            }
        }
    }

    /// Asks beside its connection for what an owner has given back: whoever says that it is held does not know
    /// what is so.
    fn ask_aside(&mut self, key: Key, owner: Holder) {
        let aside = self.aside.as_mut();
        let aside = aside.filter(|aside| aside.unanswered() < MANY);
        let asked = aside.map(|aside| aside.send(&token_of(key, By::Owner(owner))));
        if asked.is_some_and(|asked| asked.is_err()) {
            self.aside = None;
        }
    }

    fn listen_aside(&mut self) {
        while let Some(aside) = &mut self.aside {
            match aside.read() {
                Ok(answer) if answer.starts_with("200 ") => {
                    let holder = self.session.as_ref().map_or(0, |session| session.holder);
                    let what = format!("{answer} of an owner that has nothing");
                    self.world.write(Event::AnsweredBehind { holder, what });
                }
                // It may be closed, or told that there is no leader.
                Ok(_) => {}
                Err(Lost::Silent) => return,
                Err(Lost::Closed) => self.aside = None,
            }
        }
    }

    // ------------------------------------------------------------------------------ questions and answers

    fn look(&mut self, line: &mut Line, key: Key) -> Result<(), Lost> {
        self.look_as(line, key, self.keys[key].by)
    }

    /// Asks whether the session, or the owner, has it.
    fn look_as(&mut self, line: &mut Line, key: Key, by: By) -> Result<(), Lost> {
        let answer = self.ask(line, &token_of(key, by))?;
        self.told(key, by, &answer)
    }

    fn told(&mut self, key: Key, by: By, answer: &str) -> Result<(), Lost> {
        let token = match answer.strip_prefix("200 ").map(str::parse) {
            Some(Ok(token)) => Some(token),
            None if answer.starts_with("403 ") => None,
            _ => return self.refuses(answer, "token"),
        };
        let ends = self.keys[key].by == by && self.keys[key].ends;
        if ends && token.is_some() {
            return Ok(());
        }
        let holder = self.holder(by);
        self.world.write(Event::Token { holder, key, token });
        if self.keys[key].by == by {
            self.keys[key].knows = match token {
                Some(_) => Knows::Has,
                None => Knows::Free,
            };
        }
        Ok(())
    }

    fn holder(&self, by: By) -> Holder {
        match by {
            By::Session => self.session.as_ref().map_or(0, |session| session.holder),
            By::Owner(owner) => owner,
        }
    }

    fn ask(&mut self, line: &mut Line, request: &str) -> Result<String, Lost> {
        line.send(request)?;
        self.read(line)
    }

    /// A `503` is the last answer of a connection.
    fn read(&mut self, line: &mut Line) -> Result<String, Lost> {
        let answer = line.read()?;
        if answer.starts_with("503 ") || self.world.is_over() {
            return Err(Lost::Closed);
        }
        if let (Some(session), Some(answered), true) =
            (&mut self.session, line.answered, self.is_resumed)
        {
            session.answered = answered;
        }
        Ok(answer)
    }

    fn expect(&mut self, line: &mut Line, request: &str, expected: &str) -> Result<(), Lost> {
        loop {
            let answer = self.ask(line, request)?;
            if answer == expected {
                return Ok(());
            }
            self.refuses(&answer, request)?;
        }
    }

    /// Any other answer than `500`, while that may be, is wrong; then it goes on as if it were cut off.
    fn refuses(&self, answer: &str, request: &str) -> Result<(), Lost> {
        let may_not_store = self
            .world
            .may_not_store
            .load(std::sync::atomic::Ordering::SeqCst);
        if may_not_store && answer.starts_with("500 Not stored: ") {
            std::thread::sleep(PACE);
            return Ok(());
        }
        self.world
            .is_wrong(format!("client {}: {request}: {answer}", self.number));
        Err(Lost::Closed)
    }
}

fn token_of(key: Key, by: By) -> String {
    match by {
        By::Session => format!("token k{key}"),
        By::Owner(owner) => format!("token k{key} w{owner}"),
    }
}
