//! Servers that crash while the others go on.

use anyhow::{Context, Result};
use client_scenario::{
    device::{Device, find_text},
    report::{Abort, Report},
    secret,
};
use matrix_sdk::{RoomState, ruma::RoomId};

use crate::Party;

/// Messages that are sent while the other server is down, each encrypted with a key of its own.
const MESSAGES: usize = 5;

/// Bob's server crashes, then Alice's, then Bob's and, before it is back, Alice's too.
pub async fn lose_servers(
    report: &mut Report,
    room: &RoomId,
    (alice, alice_desk): (&Party, &Device),
    (bob, bob_desk): (&Party, &Device),
) -> Result<(), Abort> {
    lose(report, room, ("1", false), alice, (bob, bob_desk)).await?;
    lose(report, room, ("2", false), bob, (alice, alice_desk)).await?;
    lose(report, room, ("3", true), alice, (bob, bob_desk)).await
}

/// The server of `down` is away while `up` writes and gets a new device. With `both`, the server of `up` crashes before the
/// other is back, so that what it had to send must have been on its disk.
async fn lose(
    report: &mut Report,
    room: &RoomId,
    (round, both): (&str, bool),
    up: &Party,
    (down, desk): (&Party, &Device),
) -> Result<(), Abort> {
    let (writer, reader) = (up.name, down.name);
    report.must(&format!("{reader}'s server crashes"), down.server.crash()).await?;
    let texts: Vec<String> = (1..=MESSAGES).map(|number| format!("outage {round}, message {number}")).collect();
    report.step(&format!("{writer} writes, each time with a new key"), write_all(up, room, &texts)).await;
    let watch = report.step(&format!("{writer} logs in on a watch"), up.log_in("watch")).await;
    if let Some(mut watch) = watch {
        watch.start_classic_sync();
        let known = secret::until_known(&up.phone, &watch);
        report.step("the phone hears of the watch", known).await;
        if both {
            report.must(&format!("{writer}'s server crashes too, and comes back"), restart(up)).await?;
        }
        report.must(&format!("{reader}'s server comes back"), down.server.start()).await?;
        report.step(&format!("{reader}'s devices decrypt all of it"), read_all(down, desk, room, &texts)).await;
        report
            .step(&format!("{reader}'s client hears of the watch and writes for it"), async {
                secret::until_known(&down.phone, &watch).await?;
                let text = format!("back after outage {round}");
                secret::tell(&down.phone, room, &text, &[("the watch", &watch), (writer, &up.phone)]).await
            })
            .await;
        return Ok(());
    }
    report.must(&format!("{reader}'s server comes back"), down.server.start()).await
}

async fn restart(party: &Party) -> Result<()> {
    party.server.crash().await?;
    party.server.start().await
}

async fn write_all(writer: &Party, room: &RoomId, texts: &[String]) -> Result<()> {
    let joined = writer.phone.room(room, RoomState::Joined).await?;
    for text in texts {
        joined.discard_room_key().await.context("discarding the room key")?;
        secret::say(&writer.phone, room, text).await?;
    }
    Ok(())
}

async fn read_all(reader: &Party, desk: &Device, room: &RoomId, texts: &[String]) -> Result<()> {
    for (name, device) in [("the phone", &reader.phone), ("the desk", desk)] {
        let timeline = device.timeline(room).await?;
        for text in texts {
            find_text(&timeline, text).await.with_context(|| format!("read on {name}"))?;
        }
    }
    Ok(())
}
