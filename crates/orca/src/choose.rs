//! Which instances a pod can have, the cheapest first. A pure function: the
//! world comes in as values, the ranking goes out, with why all others are not in it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use vk_provider::quantity::Amount;

use crate::catalogue::{Catalogue, InstanceType, Kind};
use crate::money::Price;
use crate::pattern::Pattern;
use crate::request::{Launch, Request};

mod fit;

pub use fit::Reason;

/// Of the memory that AWS states, what the hypervisor and the kernel take, in
/// thousandths: Karpenter's default of 7.5 %.
const OVERHEAD: u64 = 75;
/// What the operating system, the container engine and our agent take.
const RESERVE: Amount = Amount::units(300 << 20);

/// Which ways of choosing are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// The pod names instance types.
    #[default]
    Explicit,
    /// Or a template.
    Template,
    /// Or nothing: its resources choose.
    Auto,
}

/// A template of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The type, or a pattern.
    pub types: Vec<Pattern>,
    /// Where the pod says nothing.
    pub launch: Option<Launch>,
    /// Where the pod says nothing.
    pub max_spot: Option<Price>,
}

/// What the configuration says about choosing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Policy {
    /// `instances.selectionMode`.
    pub mode: Mode,
    /// `instances.templates`.
    pub templates: BTreeMap<String, Template>,
    /// `instances.defaultLaunchType`; on demand where it is not set.
    pub launch: Option<Launch>,
    /// `instances.allowedInstanceTypes`; empty allows all.
    pub allowed: Vec<Pattern>,
    /// `instances.maxSpotPrices`.
    pub max_spot: BTreeMap<String, Price>,
    /// `limits.maxHourlyPrice`; a price that is not known does not pass it.
    pub max_hourly: Option<Price>,
}

/// A type in a zone.
pub type Place = (String, String);

/// What is known of the market. Empty is what is known without AWS.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Market {
    /// Prices on demand by type; the catalogue's where there is none.
    pub on_demand: BTreeMap<String, Price>,
    /// Spot prices by type and zone.
    pub spot: BTreeMap<Place, Price>,
    /// Types by zone with a usable subnet; `None` where nobody asked.
    pub offered: Option<BTreeSet<Place>>,
    /// What AWS had none of just now.
    pub unavailable: BTreeSet<(Launch, Place)>,
}

/// An instance that the pod can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The type's name.
    pub name: String,
    /// The zone; `None` where nobody asked.
    pub zone: Option<String>,
    /// How it is paid for.
    pub launch: Launch,
    /// An hour; `None` is unknown, never free.
    pub price: Option<Price>,
    /// The most that may be paid for spot.
    pub max_spot: Option<Price>,
}

/// All that there is to say about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    /// The cheapest first; offers without a known price last.
    pub offers: Vec<Offer>,
    /// Every other type of the catalogue, by name.
    pub left_out: Vec<(String, Reason)>,
}

/// Why nothing was chosen, before any type was looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Explicit => "explicit",
            Self::Template => "template",
            Self::Auto => "auto",
        })
    }
}

/// What the pod, its template and the configuration say together.
struct Wish<'a> {
    request: &'a Request,
    policy: &'a Policy,
    /// Empty where the resources choose.
    types: &'a [Pattern],
    launch: Launch,
    max_spot: Option<Price>,
}

impl<'a> Wish<'a> {
    fn of(policy: &'a Policy, request: &'a Request) -> Result<Self, Refusal> {
        let template = match &request.template {
            Some(name) if request.types.is_empty() => Some(template(policy, name)?),
            _ => None,
        };
        if request.types.is_empty() && template.is_none() && policy.mode != Mode::Auto {
            return Err(Refusal(format!(
                "the selection mode is {}, and the pod names no instance type; annotate it with \
                 orca.research/instance-type, or set instances.selectionMode: auto",
                policy.mode
            )));
        }
        let launch = request
            .launch
            .or(template.and_then(|t| t.launch))
            .or(policy.launch);
        let launch = launch.unwrap_or(Launch::OnDemand);
        if request.reserved && launch == Launch::Spot {
            return Err(Refusal(
                "spot instances cannot use a capacity reservation; annotate the pod with \
                 orca.research/launch-type: on-demand"
                    .into(),
            ));
        }
        Ok(Self {
            request,
            policy,
            types: template.map_or(&request.types, |t| &t.types),
            launch,
            max_spot: request.max_spot.or(template.and_then(|t| t.max_spot)),
        })
    }

    /// The most that may be paid for this type on the spot market.
    fn max_spot(&self, name: &str) -> Option<Price> {
        self.max_spot
            .or_else(|| self.policy.max_spot.get(name).copied())
    }
}

fn template<'a>(policy: &'a Policy, name: &str) -> Result<&'a Template, Refusal> {
    if policy.mode == Mode::Explicit {
        return Err(Refusal(
            "the selection mode is explicit, and the pod names a template; set \
             instances.selectionMode: template, or annotate the pod with orca.research/instance-type"
                .into(),
        ));
    }
    policy.templates.get(name).ok_or_else(|| {
        let known: Vec<&str> = policy.templates.keys().map(String::as_str).collect();
        Refusal(format!(
            "there is no template {name:?}; instances.templates has [{}]",
            known.join(", ")
        ))
    })
}

/// Ranks what the pod can have.
///
/// # Errors
/// The configuration does not let the pod choose in this way.
pub fn choose(
    catalogue: &Catalogue,
    market: &Market,
    policy: &Policy,
    request: &Request,
) -> Result<Ranking, Refusal> {
    let wish = Wish::of(policy, request)?;
    let mut found = Vec::new();
    let mut left_out = Vec::new();
    for kind in &catalogue.types {
        match fit::fit(kind, &wish).and_then(|()| offers(kind, market, &wish)) {
            Ok(offers) => found.extend(
                offers
                    .into_iter()
                    .map(|offer| (rank(kind, market, &offer), offer)),
            ),
            Err(reason) => left_out.push((kind.name.clone(), reason)),
        }
    }
    found.sort_by(|a, b| {
        a.0.cmp(&b.0)
            .then_with(|| (&a.1.name, &a.1.zone).cmp(&(&b.1.name, &b.1.zone)))
    });
    let offers = found.into_iter().map(|(_, offer)| offer).collect();
    Ok(Ranking { offers, left_out })
}

/// Price, then newer generation, then fewer accelerators. A spot price that is
/// not known stands behind those that are, in the order of the list prices.
type Rank = (bool, Option<Price>, Reverse<u32>, u32);

fn rank(kind: &InstanceType, market: &Market, offer: &Offer) -> Rank {
    let price = offer.price.or_else(|| list_price(kind, market));
    let last = Price::micro(u64::MAX);
    let accelerators = kind.accelerator.as_ref().map_or(0, |a| a.count);
    (
        offer.price.is_none(),
        price.or(Some(last)),
        Reverse(kind.generation()),
        accelerators,
    )
}

fn list_price(kind: &InstanceType, market: &Market) -> Option<Price> {
    market.on_demand.get(&kind.name).copied().or(kind.price)
}

/// A type that fits, in every zone that has it.
fn offers(kind: &InstanceType, market: &Market, wish: &Wish<'_>) -> Result<Vec<Offer>, Reason> {
    let zones: Vec<Option<String>> = match &market.offered {
        None => vec![None],
        Some(places) => places
            .iter()
            .filter(|(name, _)| *name == kind.name)
            .map(|(_, zone)| Some(zone.clone()))
            .collect(),
    };
    let mut offers = Vec::new();
    let mut why = Reason::NotOffered;
    for zone in zones {
        let place = (kind.name.clone(), zone.clone().unwrap_or_default());
        let price = match wish.launch {
            Launch::OnDemand => list_price(kind, market),
            Launch::Spot => market.spot.get(&place).copied(),
        };
        let max_spot = match wish.launch {
            Launch::Spot => wish.max_spot(&kind.name),
            Launch::OnDemand => None,
        };
        // AWS itself holds a spot instance of unknown price to its bound.
        let ceiling = wish.policy.max_hourly;
        if market.unavailable.contains(&(wish.launch, place)) {
            why = Reason::Unavailable;
        } else if let (Some(price), Some(most)) = (price, max_spot)
            && price > most
        {
            why = Reason::TooDear {
                price: Some(price),
                most,
            };
        } else if let Some(most) = ceiling
            && price.or(max_spot).is_none_or(|price| price > most)
        {
            why = Reason::TooDear { price, most };
        } else {
            offers.push(Offer {
                name: kind.name.clone(),
                zone,
                launch: wish.launch,
                price,
                max_spot,
            });
        }
    }
    if offers.is_empty() {
        Err(why)
    } else {
        Ok(offers)
    }
}

/// What of an instance's memory a pod can have.
pub fn usable_memory(kind: &InstanceType) -> Amount {
    let mib = kind.memory_mib - kind.memory_mib * OVERHEAD / 1000;
    Amount::units(i64::try_from(mib << 20).unwrap_or(i64::MAX)).saturating_sub(RESERVE)
}

/// How many of a kind the type has.
fn devices(kind: &InstanceType, wanted: Kind) -> u32 {
    kind.accelerator
        .as_ref()
        .filter(|a| a.kind == wanted)
        .map_or(0, |a| a.count)
}

#[cfg(test)]
mod tests;
