//! One measurement from its first connection to its last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Interval, interval, sleep_until};

use super::course::Course;
use super::crew::{self, Plan, Told};
use super::failure::Failure;
use super::progress::Progress;
use super::tally::Tally;

/// How long nothing may come from a server that has been asked for something.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same when it is known already that something is wrong.
const PATIENCE_AFTER_A_FAILURE: Duration = Duration::from_secs(2);
/// How long clients may take to end.
const LONGEST_END: Duration = Duration::from_secs(60);
/// How often the progress is shown, and the server's silence noticed.
const TICK: Duration = Duration::from_millis(100);

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// The answers.
    pub tally: Tally,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Processor time of this process in it.
    pub processor: Duration,
    /// Whether a signal ended it.
    pub is_interrupted: bool,
    /// Whether clients were given up while they waited for answers.
    pub is_abandoned: bool,
    /// What else ended it too early.
    pub failure: Option<Failure>,
}

/// Measures for this time, or until a signal comes.
///
/// # Errors
///
/// It could not begin.
pub async fn measure(plan: &Arc<Plan>, time: Duration) -> Result<Measured, Failure> {
    let mut conductor = Conductor::new(plan, time)?;
    conductor.progress.connects();
    let (tell, told) = unbounded_channel();
    conductor.told = Some(told);
    let threads = crew::start(plan, &conductor.course, &tell)?;
    drop(tell);
    let far = Instant::now() + Duration::from_secs(1 << 30);
    // A thread that is told to give up ends without being ready, and then all are.
    while conductor.ready.max(conductor.ended) < threads.len() {
        conductor.event(far).await;
    }
    let processor = processor_time();
    let begin = Instant::now();
    conductor.begin = Some(begin);
    conductor.course.begin();
    let end = begin + time;
    while !conductor.course.is_stopping() && Instant::now() < end {
        conductor.event(end).await;
    }
    conductor.course.stop();
    let longest_end = Instant::now() + LONGEST_END;
    while conductor.ended < threads.len() {
        conductor.event(longest_end).await;
        conductor.gives_up_at(longest_end);
    }
    conductor.progress.ends();
    let tally = conductor.course.tally();
    Ok(Measured {
        elapsed: tally.last.map_or(Duration::ZERO, |last| last - begin),
        tally,
        processor: processor_time().saturating_sub(processor),
        is_interrupted: conductor.is_interrupted,
        is_abandoned: conductor.course.abandoned.is_cancelled(),
        failure: conductor.course.take_failure(),
    })
}

/// Watches over the clients.
struct Conductor {
    course: Arc<Course>,
    progress: Progress,
    told: Option<UnboundedReceiver<Told>>,
    interrupt: Signal,
    terminate: Signal,
    tick: Interval,
    begin: Option<Instant>,
    ready: usize,
    ended: usize,
    is_interrupted: bool,
    /// What the server had sent, and since when nothing more came.
    last_sign: (u64, Instant),
}

enum Event {
    Told(Option<Told>),
    Signal,
    Tick,
    Late,
}

impl Conductor {
    fn new(plan: &Plan, time: Duration) -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(Failure::System);
        Ok(Self {
            course: Arc::new(Course::new(plan.threads())),
            progress: Progress::new(time),
            told: None,
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            tick: interval(TICK),
            begin: None,
            ready: 0,
            ended: 0,
            is_interrupted: false,
            last_sign: (0, Instant::now()),
        })
    }

    /// Does what has to be done next, at the latest at this time.
    async fn event(&mut self, latest: Instant) {
        match self.next_event(latest).await {
            Event::Told(Some(Told::Ready)) => self.ready += 1,
            Event::Told(Some(Told::Ended)) => self.ended += 1,
            // No thread is there any more, and not all have said so.
            Event::Told(None) => self.ended = usize::MAX,
            Event::Late => {}
            // A second signal is from somebody who does not want to wait for the answers.
            Event::Signal if self.is_interrupted => self.course.abandoned.cancel(),
            Event::Signal => {
                self.is_interrupted = true;
                self.course.stop();
            }
            Event::Tick => self.looks(),
        }
    }

    async fn next_event(&mut self, latest: Instant) -> Event {
        let told = async {
            match &mut self.told {
                Some(told) => told.recv().await,
                None => None,
            }
        };
        tokio::select! {
            told = told => Event::Told(told),
            _ = self.interrupt.recv() => Event::Signal,
            _ = self.terminate.recv() => Event::Signal,
            _ = self.tick.tick() => Event::Tick,
            () = sleep_until(latest.into()) => Event::Late,
        }
    }

    fn looks(&mut self) {
        if let Some(begin) = self.begin {
            self.progress.shows(begin.elapsed(), || self.course.done());
        }
        let signs = self.course.signs_of_life();
        if signs != self.last_sign.0 {
            self.last_sign = (signs, Instant::now());
        }
        let patience = match self.course.has_failed() {
            true => PATIENCE_AFTER_A_FAILURE,
            false => PATIENCE,
        };
        if self.last_sign.1.elapsed() > patience {
            self.gives_up(Failure::Silent {
                seconds: patience.as_secs(),
                clients: self.course.waiting(),
            });
        }
    }

    fn gives_up_at(&self, latest: Instant) {
        if Instant::now() >= latest {
            self.gives_up(Failure::Slow {
                seconds: LONGEST_END.as_secs(),
                clients: self.course.waiting(),
            });
        }
    }

    fn gives_up(&self, why: Failure) {
        self.course.fail(why);
        self.course.abandoned.cancel();
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}
