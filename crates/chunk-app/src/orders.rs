//! The commands besides `serve`.

use tokio::sync::{mpsc, watch};

use crate::cli;
use crate::control::Control;
use crate::failure::{Failure, Kind, Outcome};
use crate::output;
use crate::progress::Progress;
use crate::run::run;
use crate::settings::{Settings, name_and_url};
use crate::signals::Signals;
use crate::wire::{
    EvictOrder, FetchEvent, FetchOrder, OrderedOrigin, PinOrder, Role, VerifyOrder, WhyOrder,
};

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

pub(crate) async fn why(settings: &Settings, flags: &cli::Why) -> Outcome<()> {
    let order = WhyOrder {
        path: flags.path.clone(),
        offset: flags.offset.0,
    };
    let answer = run(settings, Role::Command, async |control: &dyn Control| {
        control.why(order.clone()).await
    })
    .await?;
    if flags.json {
        output::json(&answer)
    } else {
        output::line(output::why(&answer))
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
    // Those that the command was given; which others there are, whoever carries it out knows.
    let given = |name: &str| {
        let mut flags = flags.cache.origins.iter();
        flags.any(|flag| name_and_url(flag).is_ok_and(|(given, _)| given == name))
    };
    let origins = settings
        .mounts
        .iter()
        .filter(|origin| given(&origin.name))
        .map(|origin| OrderedOrigin {
            name: origin.name.clone(),
            url: origin.url.to_string(),
        })
        .collect();
    let order = FetchOrder {
        targets: flags.targets.clone(),
        origins,
    };
    let mut signals = Signals::watch()
        .map_err(|error| Failure::failed(format!("cannot watch for signals: {error}")))?;
    let interrupted = watch::Sender::new(false);
    let mut stop = interrupted.subscribe();
    tokio::spawn(async move {
        signals.next().await;
        interrupted.send_replace(true);
        signals.next().await;
        // The second one: what is still to be put in order stays as a crash would leave it.
        std::process::exit(1);
    });
    let mut progress = Progress::new(flags.json);
    run(settings, Role::Fetch, async |control: &dyn Control| {
        let events = control.fetch(order.clone()).await?;
        tokio::select! {
            ended = follow(events, &mut progress) => ended,
            Ok(_) = stop.wait_for(|interrupted| *interrupted) => Err(Failure::failed(
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
