//! Carrying an order out: in this process where nobody holds the folder, else by whoever does.

use std::ops::AsyncFnMut;
use std::path::Path;
use std::time::Duration;

use chunk_bytes_file::FolderLock;
use tokio::time::Instant;

use crate::compose;
use crate::control::Control;
use crate::failure::{Failure, Kind, Outcome};
use crate::folder;
use crate::instance::Instance;
use crate::remote::Remote;
use crate::settings::Settings;
use crate::wire::Role;

/// How long to wait for a folder whose holder is starting, ending or busy with a short command.
const HOLDER_TIMEOUT: Duration = Duration::from_secs(15);

/// How often to look meanwhile. A lock file has no event that every file system tells.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long to wait for a short command without a word: most are over by then.
const PATIENCE_UNTOLD: Duration = Duration::from_secs(1);

/// How often an order may change hands before something else must be wrong.
const MOST_HANDS: u32 = 10;

/// A way to the folder.
#[derive(Debug)]
enum Held {
    /// This process holds it.
    Here(FolderLock),
    /// Another process does, and carries orders out.
    There(Remote),
}

/// Carries `order` out, wherever, and once more where the process that was to do it ends or hands over:
/// orders can be repeated.
pub(crate) async fn run<A>(
    settings: &Settings,
    role: Role,
    mut order: impl AsyncFnMut(&dyn Control) -> Outcome<A>,
) -> Outcome<A> {
    if role == Role::Command {
        folder::expect(&settings.cache_dir)?;
    }
    folder::prepare(&settings.cache_dir)?;
    let mut prefer_other = false;
    for _ in 0..MOST_HANDS {
        match find(&settings.cache_dir, role, prefer_other).await? {
            Held::Here(lock) => {
                let instance = Instance::start(lock, settings, role).await?;
                let mut handover = instance.handover_requested();
                let control = instance.control();
                let answer = tokio::select! {
                    answer = order(&control) => Some(answer),
                    () = handover.wait() => None,
                };
                instance.stop().await;
                match answer {
                    Some(answer) => return answer,
                    None => prefer_other = true,
                }
            }
            Held::There(remote) => match order(&remote).await {
                Err(failure) if failure.kind() == Kind::Lost => prefer_other = false,
                answer => return answer,
            },
        }
    }
    Err(Failure::failed(
        "the cache folder changed hands too often to finish; try again",
    ))
}

/// Takes the folder's lock for a server: from nobody, or from a process that hands over.
pub(crate) async fn take_over(folder: &Path) -> Outcome<FolderLock> {
    let deadline = Instant::now() + HOLDER_TIMEOUT;
    let remote = Remote::new(folder);
    loop {
        if let Some(lock) = compose::try_lock(folder)? {
            return Ok(lock);
        }
        if let Ok(holder) = remote.instance().await {
            if holder.role == Role::Serve {
                return Err(Failure::failed(format!(
                    "another chunkd (process {}) serves the cache folder {}; stop it, or choose another \
                     folder with --cache-dir DIR",
                    holder.pid,
                    folder.display()
                )));
            }
            tracing::info!(process = holder.pid, "taking over from another command");
            // An error means that it has gone meanwhile.
            let _ = remote.request_handover().await;
        }
        wait_or_give_up(folder, deadline).await?;
    }
}

/// Looks for a way. With `prefer_other`, whoever asked for the folder gets time to take it.
async fn find(folder: &Path, role: Role, prefer_other: bool) -> Outcome<Held> {
    let mut deadline = Instant::now() + HOLDER_TIMEOUT;
    let others_until = Instant::now() + HOLDER_TIMEOUT / 3;
    let mut tell_at = Some(Instant::now() + PATIENCE_UNTOLD);
    let remote = Remote::new(folder);
    loop {
        let may_take = !prefer_other || Instant::now() >= others_until;
        if may_take && let Some(lock) = compose::try_lock(folder)? {
            return Ok(Held::Here(lock));
        }
        if let Ok(holder) = remote.instance().await {
            // A short command fetches nothing, so a fetch waits until it is over: a check of a large cache takes
            // its time, and as long as it answers nothing is wrong.
            if role != Role::Fetch || holder.role != Role::Command {
                return Ok(Held::There(remote));
            }
            deadline = Instant::now() + HOLDER_TIMEOUT;
            if tell_at.is_some_and(|at| Instant::now() >= at) {
                tell_at = None;
                tracing::info!(
                    process = holder.pid,
                    "another command uses the cache folder; this one begins when that is done"
                );
            }
        }
        wait_or_give_up(folder, deadline).await?;
    }
}

async fn wait_or_give_up(folder: &Path, deadline: Instant) -> Outcome<()> {
    if Instant::now() >= deadline {
        return Err(Failure::failed(format!(
            "another chunkd uses the cache folder {} and does not answer; stop it, or choose another folder \
             with --cache-dir DIR",
            folder.display()
        )));
    }
    tokio::time::sleep(LOOK_EVERY).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;
    use crate::socket;

    /// Says on the socket that a process of `role` holds the folder, `times` times.
    async fn answer(listener: UnixListener, role: &str, times: u32) {
        let body = format!(r#"{{"role":"{role}","pid":1}}"#);
        for _ in 0..times {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0);
            }
            let len = body.len();
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{body}");
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    }

    /// More looks than fit into the time that a silent holder is given.
    fn looks() -> u32 {
        u32::try_from(HOLDER_TIMEOUT.as_millis() / LOOK_EVERY.as_millis()).unwrap() * 3
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_waits_for_a_long_command_for_as_long_as_it_answers() {
        let folder = tempfile::tempdir().unwrap();
        let lock = compose::try_lock(folder.path()).unwrap().unwrap();
        let listener = socket::listen(folder.path()).unwrap();
        tokio::spawn(async move {
            answer(listener, "command", looks()).await;
            drop(lock);
        });
        let found = find(folder.path(), Role::Fetch, false).await;
        assert!(matches!(found, Ok(Held::Here(_))), "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_does_not_answer_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let _lock = compose::try_lock(folder.path()).unwrap().unwrap();
        let began = Instant::now();
        let found = find(folder.path(), Role::Fetch, false).await;
        assert!(found.unwrap_err().message().contains("does not answer"));
        assert!(began.elapsed() >= HOLDER_TIMEOUT);
    }
}
