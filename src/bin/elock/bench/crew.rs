//! The threads on which the clients run.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use super::client::Place;
use super::course::Course;
use super::failure::Failure;
use super::nearby::Target;
use super::script::Script;
use super::workload::{KeyNames, Workload};

/// More of them than this do not help.
const MOST_THREADS: usize = 16;

/// What the clients do.
#[derive(Debug)]
pub struct Plan {
    /// Where the server is.
    pub target: Target,
    /// What they ask.
    pub workload: Workload,
    /// How many there are.
    pub clients: u32,
    /// How many requests each sends at once.
    pub pipeline: usize,
    /// How many keys there are: for each, or for all.
    pub keys: u32,
    /// What the keys are called.
    pub names: KeyNames,
}

/// What a thread tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// All of its clients are connected.
    Ready,
    /// All of its clients have ended.
    Ended,
}

impl Plan {
    /// How many threads there are: each is a runtime of its own, as clients share nothing. They are
    /// as many as leave the server as many processors.
    pub fn threads(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        (processors / 2)
            .clamp(1, MOST_THREADS)
            .min(self.clients as usize)
    }
}

/// Starts the threads.
///
/// # Errors
///
/// The system has no room for them.
pub fn start(
    plan: &Arc<Plan>,
    course: &Arc<Course>,
    tell: &UnboundedSender<Told>,
) -> Result<Vec<JoinHandle<()>>, Failure> {
    let start = |lane| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (plan, course, tell) = (Arc::clone(plan), Arc::clone(course), tell.clone());
        std::thread::Builder::new()
            .name(format!("clients-{lane}"))
            .spawn(move || {
                runtime.block_on(run_lane(&plan, &course, lane, &tell));
                // Nobody listens only if all has ended.
                let _ = tell.send(Told::Ended);
            })
    };
    (0..course.lanes.len())
        .map(start)
        .collect::<Result<_, _>>()
        .map_err(Failure::System)
}

async fn run_lane(
    plan: &Arc<Plan>,
    course: &Arc<Course>,
    lane: usize,
    tell: &UnboundedSender<Told>,
) {
    let place = Place {
        course: Arc::clone(course),
        lane,
        pipeline: plan.pipeline,
    };
    let mut clients = JoinSet::new();
    let whole = async {
        // The one that connects.
        course.lanes[lane].set_waiting(1);
        if let Err(failure) = spawn_clients(plan, &place, &mut clients).await {
            course.fail(failure);
        }
        let _ = tell.send(Told::Ready);
        course.lanes[lane].set_waiting(clients.len());
        while let Some(ended) = clients.join_next().await {
            course.lanes[lane].set_waiting(clients.len());
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => course.fail(failure),
                Err(panicked) => course.fail(Failure::System(panicked.into())),
            }
        }
    };
    let _ = course.abandoned.run_until_cancelled(whole).await;
}

/// One after the other, so that the server's backlog of new connections never overflows.
async fn spawn_clients(
    plan: &Arc<Plan>,
    place: &Place,
    clients: &mut JoinSet<Result<(), Failure>>,
) -> Result<(), Failure> {
    for client in (place.lane as u32..plan.clients).step_by(place.course.lanes.len()) {
        if place.course.is_stopping() {
            break;
        }
        let script = script(plan, client);
        let (plan, place) = (Arc::clone(plan), place.clone());
        if plan.workload == Workload::Churn {
            clients.spawn(async move { place.churn(&plan.target, &script).await });
        } else {
            let stream = place.connect(&plan.target).await?;
            clients.spawn(async move { place.go_on(stream, &script).await });
        }
    }
    Ok(())
}

fn script(plan: &Plan, client: u32) -> Script {
    let mut script = plan.workload.script(&plan.names, client, plan.keys);
    script.repeat_for(plan.pipeline);
    script
}
