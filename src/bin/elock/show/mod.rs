//! What a person asks a server: `status`, `locks`, `sessions`, `who`, `graph`, `watch`; and what an
//! operator tells it: `break`, `unlock`, `force-unlock`, `kick`, `drain`,
//! `failover`.

pub(crate) mod ask;
mod clock;
mod dot;
mod drain;
mod failover;
pub(crate) mod failure;
mod follow;
mod graph;
pub(crate) mod key;
mod locks;
pub(crate) mod output;
pub(crate) mod parties;
mod queue;
mod release;
mod repeat;
mod sessions;
pub mod status;
pub(crate) mod table;
mod tree;
pub(crate) mod visible;
mod who;

use std::process::ExitCode;

use clap::Subcommand;

use crate::server::ServerArgs;

/// Each of them.
#[derive(Debug, Subcommand)]
pub enum ShowCommand {
    /// The server in numbers, and its busiest keys
    Status(status::StatusArgs),
    /// The locks that are held
    Locks(locks::LocksArgs),
    /// Who is connected, or may come back
    Sessions(sessions::SessionsArgs),
    /// Who holds a lock, and who waits for it; exit code 1 if it is free
    Who(who::WhoArgs),
    /// Who waits for whom, as a tree
    Graph(graph::GraphArgs),
    /// Show each change of a lock as it comes
    Watch(follow::WatchArgs),
    /// Free a lock that owner words hold, whoever they are
    Break(release::BreakArgs),
    /// Release the lock of an owner word
    Unlock(release::UnlockArgs),
    /// Take a lock from whoever holds it
    ForceUnlock(release::ForceUnlockArgs),
    /// End a session, and free what it holds
    Kick(release::KickArgs),
    /// Have the server give no new locks, and stop when none is held
    Drain(drain::DrainArgs),
    /// Have another of several servers on etcd lead
    Failover(failover::FailoverArgs),
}

/// Runs one.
pub fn run(command: ShowCommand, server: &ServerArgs) -> ExitCode {
    let servers = &server.server;
    ask::block_on(async {
        match command {
            ShowCommand::Status(args) => status::run(args, servers).await,
            ShowCommand::Locks(args) => locks::run(args, servers).await,
            ShowCommand::Sessions(args) => sessions::run(args, servers).await,
            ShowCommand::Who(args) => who::run(args, servers).await,
            ShowCommand::Graph(args) => graph::run(args, servers).await,
            ShowCommand::Watch(args) => follow::run(args, servers).await,
            ShowCommand::Break(args) => release::run_break(args, servers).await,
            ShowCommand::Unlock(args) => release::run_unlock(args, servers).await,
            ShowCommand::ForceUnlock(args) => release::run_force_unlock(args, servers).await,
            ShowCommand::Kick(args) => release::run_kick(args, servers).await,
            ShowCommand::Drain(args) => drain::run(args, servers).await,
            ShowCommand::Failover(args) => failover::run(args, servers).await,
        }
    })
}
