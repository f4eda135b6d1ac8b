//! The commands besides `serve`.

use tokio::sync::mpsc;

use crate::cli;
use crate::control::Control;
use crate::failure::{Failure, Kind, Outcome};
use crate::output;
use crate::progress::Progress;
use crate::run::run;
use crate::settings::Settings;
use crate::wire::{EvictOrder, FetchEvent, FetchOrder, PinOrder, Role, VerifyOrder};

pub(crate) async fn status(settings: &Settings, flags: &cli::Status) -> Outcome<()> {
    let report = run(settings, Role::Command, async |control: &dyn Control| {
        control.status().await
    })
    .await?;
    if flags.json {
        output::json(&report)
    } else {
        output::line(output::status(&report))
    }
}

pub(crate) async fn verify(settings: &Settings, flags: &cli::Verify) -> Outcome<()> {
    let order = VerifyOrder {
        repair: flags.repair,
    };
    let answer = run(settings, Role::Command, async |control: &dyn Control| {
        control.verify(order).await
    })
    .await?;
    if flags.json {
        output::json(&answer)?;
    } else {
        output::line(output::verify(&answer))?;
    }
    match answer.bad.len() {
        bad if bad > 0 && !answer.repaired => Err(Failure::failed(format!(
            "{bad} recorded blocks are bad; `chunkd verify --repair` forgets them"
        ))),
        _ => Ok(()),
    }
}

pub(crate) async fn evict(settings: &Settings, flags: &cli::Evict) -> Outcome<()> {
    let order = EvictOrder {
        path: if flags.all { None } else { flags.path.clone() },
    };
    let answer = run(settings, Role::Command, async |control: &dyn Control| {
        control.evict(order.clone()).await
    })
    .await?;
    if flags.json {
        output::json(&answer)
    } else {
        let freed = crate::units::approximate_size(answer.freed_bytes);
        output::line(format!("{freed} freed"))
    }
}

pub(crate) async fn pin(settings: &Settings, flags: &cli::PinTarget, pinned: bool) -> Outcome<()> {
    let order = PinOrder {
        path: flags.path.clone(),
        pinned,
    };
    let answer = run(settings, Role::Command, async |control: &dyn Control| {
        control.pin(order.clone()).await
    })
    .await?;
    if flags.json {
        output::json(&answer)
    } else {
        let state = if pinned { "pinned" } else { "no longer pinned" };
        output::line(format!("{} is {state}", answer.path))
    }
}

pub(crate) async fn fetch(settings: &Settings, flags: &cli::Fetch) -> Outcome<()> {
    let order = FetchOrder {
        targets: flags.targets.clone(),
    };
    let interrupted = async {
        match tokio::signal::ctrl_c().await {
            Ok(()) => {}
            // Without the signal's handler the signal itself ends the process.
            Err(_) => std::future::pending().await,
        }
    };
    let mut progress = Progress::new(flags.json);
    let told = std::cell::RefCell::new(&mut progress);
    let mut interrupted = std::pin::pin!(interrupted);
    let stop = std::cell::RefCell::new(interrupted.as_mut());
    run(settings, Role::Fetch, async |control: &dyn Control| {
        let mut progress = told.borrow_mut();
        let mut stop = stop.borrow_mut();
        let events = control.fetch(order.clone()).await?;
        tokio::select! {
            ended = follow(events, &mut progress) => ended,
            () = stop.as_mut() => Err(Failure::failed(
                "stopped; what has arrived is kept, and the rest goes on with `chunkd serve` or the same \
                 command",
            )),
        }
    })
    .await?;
    progress.verdict()
}

async fn follow(mut events: mpsc::Receiver<FetchEvent>, progress: &mut Progress) -> Outcome<()> {
    while let Some(event) = events.recv().await {
        if event == FetchEvent::End {
            return Ok(());
        }
        progress.tell(event)?;
    }
    Err(Failure::new(
        Kind::Lost,
        "the chunkd that was fetching has ended",
    ))
}
