//! Players on the same machine.

use std::io;

use tokio::net::TcpListener;

/// Lets a listener that only this machine can reach send as fast as its clients take.
///
/// What the system does about congestion may include a pace (BBR), which the kernel keeps with a timer for every few
/// segments. Between two programs on one machine there is no line whose rate one could find, and the timers alone took
/// a fifth of the processor time of a hit. Reno keeps no pace, is always there (RFC 5681), and may be chosen by
/// everybody; the connections that are accepted inherit it. A listener that others can reach keeps what the system's
/// operator chose.
#[cfg(target_os = "linux")]
pub(crate) fn do_not_pace(listener: &TcpListener) -> io::Result<()> {
    if listener.local_addr()?.ip().is_loopback() {
        rustix::net::sockopt::set_tcp_congestion(listener, "reno")?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn do_not_pace(_: &TcpListener) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    async fn congestion_control_of_who_is_accepted(address: &str) -> io::Result<String> {
        let listener = TcpListener::bind((address, 0)).await?;
        do_not_pace(&listener)?;
        let port = listener.local_addr()?.port();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(("127.0.0.1", port)), listener.accept());
        client?;
        Ok(rustix::net::sockopt::tcp_congestion(accepted?.0)?)
    }

    #[tokio::test]
    async fn who_comes_from_the_same_machine_is_not_paced() -> io::Result<()> {
        let near = congestion_control_of_who_is_accepted("127.0.0.1").await?;
        assert_eq!(near, "reno");
        Ok(())
    }

    #[tokio::test]
    async fn where_others_can_come_the_system_decides() -> io::Result<()> {
        let plain = TcpListener::bind("0.0.0.0:0").await?;
        let systems = rustix::net::sockopt::tcp_congestion(&plain)?;
        let far = congestion_control_of_who_is_accepted("0.0.0.0").await?;
        assert_eq!(far, systems);
        Ok(())
    }
}
