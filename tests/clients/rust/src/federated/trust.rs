//! Cross-signing identities and verification across servers.

use anyhow::{Context, Result, ensure};
use client_scenario::{
    device::Device,
    report::{Report, until, until_true},
    secret, verify,
};

use crate::Party;

/// Both make an identity while they share a room; each has to hear of the other's.
pub async fn make_identities(report: &mut Report, alice: &Party, bob: &Party) {
    for (owner, other) in [(alice, bob), (bob, alice)] {
        report
            .step(&format!("{} makes a cross-signing identity, {} hears of it", owner.name, other.name), async {
                verify::bootstrap_cross_signing(&owner.phone).await?;
                let user = owner.phone.user()?;
                let identity = until(&format!("the identity of {user}"), async || {
                    other.phone.client.encryption().get_user_identity(user).await.ok().flatten()
                })
                .await?;
                ensure!(!identity.is_verified(), "{user} is verified already");
                until_signed(&other.phone, &owner.phone).await
            })
            .await;
    }
}

/// Waits until the device is known to be signed by its owner.
async fn until_signed(asking: &Device, asked: &Device) -> Result<()> {
    until_true("the device to be signed by its owner", async || {
        secret::find_device(asking, asked).await.is_some_and(|device| device.is_cross_signed_by_owner())
    })
    .await
}

/// The desks of both by messages to devices, then each user's two devices, then the two users inside a room.
pub async fn verify_everyone(
    report: &mut Report,
    (alice, alice_desk): (&Party, &Device),
    (bob, bob_desk): (&Party, &Device),
) {
    // First, while the desks have no keys to sign a user with: else the phones would learn that the users are verified. Not
    // after the request inside a room either: a client that has not seen its end refuses another one.
    let verified = verify::verify_devices(alice_desk, bob_desk);
    report.step("the two desks verify each other by emoji, by messages to devices", verified).await;
    for (owner, desk, other) in [(alice, alice_desk, bob), (bob, bob_desk, alice)] {
        let verified = verify::verify_own_devices(&owner.phone, desk);
        if report.step(&format!("{} verifies the desk by emoji", owner.name), verified).await.is_some() {
            let signed = until_signed(&other.phone, desk);
            report.step(&format!("{}'s client hears that the desk is signed", other.name), signed).await;
        }
    }
    let open = secret::open_direct_room(&bob.phone, &alice.phone);
    if report.step("bob makes an encrypted direct room with alice", open).await.is_some() {
        // Bob asks: who was invited may not have noted yet that the room is for the two, and would make another.
        let verified = verify::verify_users(&bob.phone, &alice.phone);
        report.step("bob and alice verify each other by emoji, in the room", verified).await;
        report
            .step("each trusts the other's desk, which its owner has signed", async {
                trusts(&alice.phone, bob_desk).await?;
                trusts(&bob.phone, alice_desk).await
            })
            .await;
    }
}

async fn trusts(asking: &Device, asked: &Device) -> Result<()> {
    let identity = asking.client.encryption().get_user_identity(asked.user()?).await?;
    ensure!(identity.context("the identity is gone")?.is_verified(), "the identity is not verified");
    let device = secret::find_device(asking, asked).await.context("the device is unknown")?;
    ensure!(device.is_verified_with_cross_signing(), "the device is not trusted");
    Ok(())
}
