//! `elock send`: requests and their answers, one after the other on one connection.

use std::ffi::OsString;
use std::io::{self, BufReader, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use clap::Args;
use elock_client::{Answer, Connection, ConnectionError, Servers};
use tokio::time::timeout;

use super::{lines, request, transcript};
use crate::exit;
use crate::show::ask::connect;
use crate::show::failure::Failure;

/// What is sent.
#[derive(Debug, Args)]
#[command(after_help = "\
elock send 'lock k' 'token k' asks for both on one connection, so that the second has what the first \
took. The connection ends with the last answer, and with it, after the grace period, its locks. A request \
that waits is waited for.

Exit codes: 0 every answer was 200; otherwise by the first that was not: 1 for 409, 65 for 400, 403 and \
413, 69 for 500, 503 and 507, 75 for 423, 77 for 401 and for 403 not_allowed. 69, too, if there is no server or the \
connection breaks.

A request is sent as it is: \\xNN stands for no byte there.")]
pub struct SendArgs {
    /// Each one a line of the protocol; without any, they are read from standard input
    requests: Vec<OsString>,
}

/// Sends them.
pub async fn run(args: SendArgs, servers: &Servers) -> Result<ExitCode, Failure> {
    let given: Vec<Vec<u8>> = args.requests.into_iter().map(OsString::into_vec).collect();
    if given.iter().any(|line| line.contains(&b'\n')) {
        exit::say("a request is one line");
        return Ok(ExitCode::from(exit::USAGE));
    }
    let (mut connection, address) = connect(servers).await?;
    let mut code = 0;
    let mut given_lines = given.iter();
    let mut input = BufReader::new(io::stdin());
    loop {
        let line = match given.is_empty() {
            true => lines::next(&mut input)?,
            false => given_lines.next().cloned(),
        };
        let Some(line) = line else {
            return Ok(ExitCode::from(code));
        };
        let after = request::deadline(&line);
        let answer = timeout(after, ask(&mut connection, &line)).await;
        let answer = answer.map_err(|_| ConnectionError::TimedOut {
            address: address.clone(),
            after,
        })??;
        if code == 0 {
            code = code_of(&answer);
        }
        print(&transcript::lines(&answer, request::is_listing(&line), ""))?;
    }
}

async fn ask(connection: &mut Connection, line: &[u8]) -> Result<Answer, ConnectionError> {
    connection.send(&[line, b"\n"].concat()).await?;
    connection.receive(request::is_listing(line)).await
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::System(error),
    })
}

fn code_of(answer: &Answer) -> u8 {
    match answer.code {
        200 => 0,
        409 => exit::CONFLICT,
        423 => exit::DEADLOCK,
        401 => exit::NOT_ALLOWED,
        403 if answer.text == b"not_allowed" => exit::NOT_ALLOWED,
        500 | 503 | 507 => exit::UNAVAILABLE,
        _ => exit::REFUSED,
    }
}
