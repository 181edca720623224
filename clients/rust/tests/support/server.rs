/// Starts a server of its own for an example, in the example's runtime, and returns its address.
#[allow(dead_code)]
async fn server() -> String {
    use elock::config::{Address, Config};
    use elock::server::Control;
    let local = Address::Tcp("127.0.0.1:0".to_owned());
    let listeners = elock::server::bind(&[local]).await.expect("a free port");
    let address = listeners[0].tcp_address().expect("TCP").to_string();
    let forever = std::future::pending::<()>();
    tokio::spawn(elock::server::run(listeners, Config::default(), Control::default(), forever));
    format!("elock://{address}")
}
