//! The page at `/`, in a real browser. Skipped, with a word about it, where there is none.
#![cfg(feature = "admin")]

mod common;

use common::browser::{Browser, ENTER, ESCAPE, TAB};
use common::{Client, Server};
use serde_json::json;

/// A phone, a small window, and a desk.
const SIZES: [(u32, u32); 3] = [(360, 740), (800, 600), (1440, 900)];

/// More than so many elements are never in the page, however much there is to show: rows and nodes that are
/// in sight, and what is around them.
const MOST_ELEMENTS: u64 = 3_000;

const LIVE: &str = "document.querySelector('#link').dataset.state === 'live'";

fn open(browser: &Browser, server: &Server) {
    let address = server.admin.expect("HTTP");
    browser.go(&format!("http://{address}/"));
    browser.until(LIVE);
}

/// Nothing was said on the console: no error of a script, and nothing that the page's policy forbade.
#[track_caller]
fn assert_silent(browser: &Browser) {
    assert_eq!(browser.console(), Vec::<String>::new());
}

fn shows(text: &str) -> String {
    format!("document.body.innerText.includes({})", json!(text))
}

/// The text of the list's rows that are in the page.
fn rows(list: &str) -> String {
    format!(
        "[...document.querySelectorAll('.row.{list}-columns')].map((row) => row.innerText).join('\\n')"
    )
}

/// Some that hold, wait and have gone; and a deadlock.
fn busy(server: &Server) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
    clients[0].ask("name deploy:migrate", "200 OK");
    clients[0].ask("lock schema", "200 Acquired");
    clients[1].ask("lock report/1", "200 Acquired");
    clients[1].send("lock schema 600");
    server.until_waiting(1);
    clients[2].send("lock report/1 600");
    clients[3].ask("lock_value config readers", "200 Acquired");
    clients[4].ask("lock order/2", "200 Acquired");
    clients[5].ask("lock order/1", "200 Acquired");
    clients[5].send("lock order/2 600");
    server.until_waiting(3);
    clients[4].ask(
        "lock order/1 600",
        "423 Deadlock: #5 => order/1 = #6 => order/2 = #5",
    );
    clients
}

#[test]
fn it_fits_each_size_in_light_and_dark_and_says_what_is_so() {
    let Some(browser) = Browser::start("it_fits_each_size_in_light_and_dark_and_says_what_is_so")
    else {
        return;
    };
    let server = Server::start_with_admin();
    open(&browser, &server);
    browser.until(&shows("Nothing is wrong."));
    browser.until(&shows("Nobody waits."));
    let _clients = busy(&server);
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        for (width, height) in SIZES {
            browser.resize(width, height);
            open(&browser, &server);
            browser.until(&shows("1 deadlock in the last hour."));
            browser.until(&shows("holds up 2"));
            for (key, text) in [
                ("1", "Who waits for whom"),
                ("2", "deadlock"),
                ("3", "deploy:migrate"),
                ("4", "report/1"),
            ] {
                browser.press(&[key]);
                browser.until(&shows(text));
                let sideways =
                    browser.run("return document.documentElement.scrollWidth - innerWidth");
                assert!(
                    sideways.as_i64() <= Some(0),
                    "{sideways} at {width}, list {key}"
                );
            }
        }
        let ground = browser.run("return getComputedStyle(document.body).backgroundColor");
        let is_dark = ground
            .as_str()
            .is_some_and(|ground| ground.starts_with("rgb(20,"));
        assert_eq!(is_dark, scheme == "dark", "{ground}");
    }
    browser.press(&["t"]);
    let ground = browser.run("return getComputedStyle(document.body).backgroundColor");
    assert_eq!(
        ground,
        json!("rgb(244, 245, 247)"),
        "light, whatever the system says"
    );
    assert_silent(&browser);
}

#[test]
fn whatever_clients_say_is_shown_as_text() {
    let Some(browser) = Browser::start("whatever_clients_say_is_shown_as_text") else {
        return;
    };
    let server = Server::start_with_admin();
    let words: [&[u8]; 8] = [
        b"<img/src=x/onerror=window.hit=1>",
        b"\"><script>window.hit=1</script>",
        b"</style></script><svg/onload=window.hit=1>",
        b"javascript:window.hit=1",
        "a\u{202e}gpj.exe".as_bytes(),
        b"\x01\x1b[31m\xff\xfe",
        "\u{200b}\u{2066}zero".as_bytes(),
        b"&lt;b&gt;${window.hit=1}",
    ];
    let mut clients = Vec::new();
    for word in words {
        let [mut holder, mut waiter] = [(); 2].map(|()| server.connect());
        holder.ask([b"name ", word].concat(), "200 OK");
        holder.ask([b"lock ", word].concat(), "200 Acquired");
        let owned: &[u8] = b" 0 ";
        holder.ask(
            [b"lock own", word, owned, word, b" 0"].concat(),
            "200 Acquired",
        );
        waiter.send([b"lock ", word, b" 600"].concat());
        clients.extend([holder, waiter]);
    }
    // What `debug` shows of them is no text.
    while server.asked("/api/waits")["requests_in_all"] != json!(words.len()) {}
    // Only the rows that are seen are made.
    browser.resize(1440, 3000);
    open(&browser, &server);
    for key in ["1", "2", "3", "4"] {
        browser.press(&[key]);
        browser.press(&["j"]);
    }
    browser.until(&shows("<img/src=x/onerror=window.hit=1>"));
    for shown in [
        "a\\xE2\\x80\\xAEgpj.exe",
        "\\x01\\x1B[31m\\xFF\\xFE",
        "\\xE2\\x80\\x8B\\xE2\\x81\\xA6zero",
        "&lt;b&gt;${window.hit=1}",
    ] {
        browser.until(&format!("{}.includes({})", rows("locks"), json!(shown)));
    }
    // Each of them in the details, too, which ask for it by its bytes.
    for _ in words {
        browser.press(&["j", ENTER]);
        browser.until("document.querySelector('#details dl, #details h3')");
    }
    assert_eq!(browser.run("return window.hit ?? null"), json!(null));
    let made = browser.run("return document.querySelectorAll('#panel img, #panel script, #details img, [onload], [onerror]').length");
    assert_eq!(made, json!(0));
    assert_silent(&browser);
    // The policy is what holds if the page does not.
    let run = browser.run(
        "try { document.body.innerHTML = '<img src=x onerror=window.hit=1>'; return 'made'; } catch (error) { return error.name; }",
    );
    assert_eq!(run, json!("TypeError"));
}

#[test]
fn a_filter_and_the_keyboard_lead_everywhere() {
    let Some(browser) = Browser::start("a_filter_and_the_keyboard_lead_everywhere") else {
        return;
    };
    let server = Server::start_with_admin();
    let _clients = busy(&server);
    open(&browser, &server);
    browser.until(&format!("{}.includes('order/2')", rows("waits")));
    browser.press(&["/", "r", "e", "p"]);
    browser.until(&format!("!{}.includes('order/2')", rows("waits")));
    browser.until(&format!("{}.includes('report/1')", rows("waits")));
    browser.press(&[ENTER, "j", ENTER]);
    browser.until("document.querySelector('#details h2')?.innerText === 'report/1'");
    browser.press(&[ESCAPE]);
    browser.until("document.querySelector('#details').hidden");
    let focus = browser.run("return document.activeElement.className");
    assert_eq!(focus, json!("rows few"), "back where it was");
    browser.press(&[ESCAPE]);
    browser.until(&format!("{}.includes('order/2')", rows("waits")));
    browser.press(&["4"]);
    browser.until(&format!("{}.includes('schema')", rows("locks")));
    browser.press(&["/", "o", "r", "d"]);
    browser.until(&format!("!{}.includes('schema')", rows("locks")));
    browser.press(&[ESCAPE, "3"]);
    browser.press(&["/", "#", "1"]);
    browser.until(&format!(
        "{}.startsWith('#1 deploy:migrate')",
        rows("sessions")
    ));
    browser.press(&[ENTER, "?"]);
    browser.until("document.querySelector('#keys').open");
    browser.press(&[ESCAPE]);
    browser.until("!document.querySelector('#keys').open");
    // Into the graph, and out of it to what it shows.
    browser.press(&[ESCAPE, "1"]);
    browser.until("document.querySelector('.graph .node[role=button]')");
    browser.press(&[TAB, TAB, ENTER]);
    browser.until("!document.querySelector('#details').hidden");
    assert_silent(&browser);
}

#[test]
fn a_session_is_ended_only_after_a_yes() {
    let Some(browser) = Browser::start("a_session_is_ended_only_after_a_yes") else {
        return;
    };
    let server = Server::start_with_admin();
    let [mut a, mut b] = [(); 2].map(|()| server.connect());
    a.ask("name stuck", "200 OK");
    a.ask("lock k", "200 Acquired");
    b.send("lock k 600");
    server.until_waiting(1);
    open(&browser, &server);
    browser.press(&["3"]);
    browser.until(&format!("{}.includes('stuck')", rows("sessions")));
    browser.press(&["j", ENTER]);
    browser.until(&shows("End this session"));
    let ask = "document.querySelector('#details .acts button').click()";
    browser.run(ask);
    browser.until(&shows("End session #1 stuck?"));
    // The answer that changes nothing is the one that Enter gives.
    browser.press(&[ENTER]);
    browser.until("!document.querySelector('#question').open");
    browser.run(ask);
    browser.press(&[ESCAPE]);
    browser.until("!document.querySelector('#question').open");
    a.ask("promote k", "200 OK");
    browser.run(ask);
    browser.press(&[TAB, ENTER]);
    browser.until(&shows("Session #1 stuck was ended."));
    a.expect_closed();
    b.expect("200 Acquired");
    browser.until(&shows("This session is over."));
    // And a lock of the other.
    browser.press(&[ESCAPE, "4"]);
    browser.until(&format!("{}.includes('k')", rows("locks")));
    browser.press(&["j", ENTER]);
    browser.until(&shows("Take away"));
    browser.run("[...document.querySelectorAll('#details .acts button')].at(-1).click()");
    browser.press(&[TAB, ENTER]);
    browser.until(&shows("k was taken away."));
    b.ask("unlock k", "403 revoked");
    assert_silent(&browser);
}

#[test]
fn very_many_locks_and_waiters_are_no_more_of_a_page() {
    let Some(browser) = Browser::start("very_many_locks_and_waiters_are_no_more_of_a_page") else {
        return;
    };
    let server = Server::start_with_admin();
    let mut holder = server.connect();
    let keys = 100_000;
    for from in (0..keys).step_by(10_000) {
        let requests = (from..from + 10_000).map(|key| format!("lock load/{key:06}\n"));
        holder.send_raw(requests.collect::<String>());
        (0..10_000).for_each(|_| holder.expect("200 Acquired"));
    }
    let mut waiters: Vec<Client> = (0..2_000).map(|_| server.connect()).collect();
    for (place, waiter) in waiters.iter_mut().enumerate() {
        waiter.send(format!("lock load/{:06} 600", place % 300));
    }
    server.until_waiting(2_000);
    open(&browser, &server);
    browser.until(&shows("Waits 2,000"));
    let elements = || {
        let count = browser.run("return document.querySelectorAll('*').length");
        count.as_u64().expect("a number")
    };
    browser.until("document.querySelectorAll('.graph .node').length > 50");
    assert!(elements() < MOST_ELEMENTS, "{}", elements());
    browser.press(&["4"]);
    browser.until(&format!("{}.includes('load/000000')", rows("locks")));
    // As far down as somebody could want to go: each time the end is in sight, there is more.
    let end = "const list = document.querySelector('.rows[aria-label=Locks]'); list.scrollTop = list.scrollHeight;";
    for _ in 0..10 {
        let before = browser
            .run("return Number(document.querySelector('.rows[aria-label=Locks]').ariaRowCount)");
        browser.run(end);
        browser.until(&format!(
            "Number(document.querySelector('.rows[aria-label=Locks]').ariaRowCount) > {before}"
        ));
        assert!(elements() < MOST_ELEMENTS, "{}", elements());
    }
    browser.press(&["3"]);
    browser.until(&format!("{}.includes('#1')", rows("sessions")));
    assert!(elements() < MOST_ELEMENTS, "{}", elements());
    assert_silent(&browser);
}

#[test]
fn a_server_that_is_gone_is_said_to_be_gone() {
    let Some(browser) = Browser::start("a_server_that_is_gone_is_said_to_be_gone") else {
        return;
    };
    let server = Server::start_with_admin();
    let clients = busy(&server);
    open(&browser, &server);
    browser.until(&shows("holds up 2"));
    drop((clients, server));
    browser.until(&shows("No answer from elockd:"));
    browser.until("document.body.classList.contains('stale')");
    let still = browser.run(&format!("return {}", shows("holds up 2")));
    assert_eq!(still, json!(true), "what was seen last stays in sight");
}
