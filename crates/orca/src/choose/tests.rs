#![allow(
    clippy::needless_pass_by_value,
    reason = "values of tests are written where they are used"
)]
use super::*;
use crate::catalogue::Arch;
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::json;

fn catalogue() -> Catalogue {
    Catalogue::compiled().unwrap()
}

fn request(limits: serde_json::Value, annotations: &[(&str, &str)]) -> Request {
    let annotations: BTreeMap<String, String> = annotations
        .iter()
        .map(|(name, value)| (format!("orca.research/{name}"), (*value).into()))
        .collect();
    let pod: Pod = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": annotations},
        "spec": {"containers": [{"name": "c", "resources": {"limits": limits}}]},
    }))
    .unwrap();
    Request::of(&pod).unwrap()
}

fn auto() -> Policy {
    Policy {
        mode: Mode::Auto,
        ..Policy::default()
    }
}

fn ranked(request: &Request) -> Vec<String> {
    let ranking = choose(&catalogue(), &Market::default(), &auto(), request).unwrap();
    ranking.offers.into_iter().map(|offer| offer.name).collect()
}

/// Worked requests over the catalogue of 2026-07-20, the cheapest first.
#[test]
fn worked_requests_get_what_is_cheapest() {
    for (limits, annotations, expected) in [
        (
            json!({"cpu": "500m", "memory": "512Mi"}),
            &[("allow-burstable", "true")][..],
            &["t3a.micro", "t3.micro"][..],
        ),
        (
            json!({"cpu": "3", "memory": "4Gi"}),
            &[],
            &["c6a.xlarge", "c5a.xlarge", "c7i-flex.xlarge", "c6i.xlarge"],
        ),
        (
            json!({"cpu": "3900m", "memory": "8Gi"}),
            &[("arch", "arm64")],
            &["m6g.xlarge", "m7g.xlarge", "m8g.xlarge"],
        ),
        (
            json!({"nvidia.com/gpu": 1}),
            &[],
            &["g4dn.xlarge", "g4dn.2xlarge", "g6.xlarge"],
        ),
        (
            json!({"nvidia.com/gpu": 2}),
            &[],
            &["g4dn.12xlarge", "g6.12xlarge"],
        ),
        (json!({"nvidia.com/gpu": 8}), &[], &["g6.48xlarge"]),
        (
            json!({"nvidia.com/gpu": 1}),
            &[("gpu-model", "h100")],
            &["p5.4xlarge"],
        ),
        (json!({"aws.amazon.com/neuron": 1}), &[], &["inf1.xlarge"]),
        (
            json!({"aws.amazon.com/neuron": 1}),
            &[("neuron-generation", "2")],
            &["inf2.xlarge", "trn1.2xlarge", "inf2.8xlarge"],
        ),
        (
            json!({"aws.amazon.com/neuroncore": 1}),
            &[("neuron-generation", "2")],
            &["inf2.xlarge"],
        ),
        (json!({"aws.amazon.com/fpga": 1}), &[], &["f2.6xlarge"]),
    ] {
        let names = ranked(&request(limits.clone(), annotations));
        assert_eq!(
            names.get(..expected.len()),
            Some(&expected.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()[..]),
            "{limits}: {names:?}"
        );
    }
}

#[test]
fn eight_gpus_for_one_are_left_out_unless_allowed() {
    let only = |annotations: &[(&str, &str)]| request(json!({"nvidia.com/gpu": 1}), annotations);
    let guarded = only(&[("instance-type", "p5.48*")]);
    let ranking = choose(&catalogue(), &Market::default(), &auto(), &guarded).unwrap();
    assert!(ranking.offers.is_empty());
    assert!(
        ranking
            .left_out
            .contains(&("p5.48xlarge".into(), Reason::Oversize { has: 8, wants: 1 }))
    );
    assert_eq!(
        ranked(&only(&[
            ("instance-type", "p5.48*"),
            ("allow-oversize", "true")
        ])),
        ["p5.48xlarge"]
    );
    assert_eq!(
        ranked(&only(&[("instance-type", "p5.48xlarge")])),
        ["p5.48xlarge"]
    );
}

#[test]
fn each_mode_takes_what_it_says_and_refuses_the_rest() {
    let template = Template {
        types: Pattern::list("c6a.xlarge").unwrap(),
        launch: Some(Launch::Spot),
        max_spot: Price::parse("0.1"),
    };
    let policy = |mode| Policy {
        mode,
        templates: [("small".into(), template.clone())].into(),
        ..Policy::default()
    };
    let ask = |mode, annotations: &[(&str, &str)]| {
        choose(
            &catalogue(),
            &Market::default(),
            &policy(mode),
            &request(json!({"cpu": 1}), annotations),
        )
    };
    assert!(
        ask(Mode::Explicit, &[])
            .unwrap_err()
            .0
            .contains("names no instance type")
    );
    assert!(
        ask(Mode::Template, &[])
            .unwrap_err()
            .0
            .contains("names no instance type")
    );
    assert!(
        ask(Mode::Explicit, &[("workload-template", "small")])
            .unwrap_err()
            .0
            .contains("selectionMode: template")
    );
    assert!(
        ask(Mode::Auto, &[("workload-template", "smal")])
            .unwrap_err()
            .0
            .contains("has [small]")
    );
    assert!(!ask(Mode::Auto, &[]).unwrap().offers.is_empty());
    let offers = ask(Mode::Template, &[("workload-template", "small")])
        .unwrap()
        .offers;
    assert_eq!(
        (offers.len(), offers[0].launch, offers[0].max_spot),
        (1, Launch::Spot, Price::parse("0.1"))
    );
    let offers = ask(
        Mode::Explicit,
        &[
            ("instance-type", "c6a.xlarge"),
            ("workload-template", "small"),
        ],
    )
    .unwrap()
    .offers;
    assert_eq!(offers[0].launch, Launch::OnDemand);
}

#[test]
fn spot_never_meets_a_reservation() {
    let both = request(
        json!({}),
        &[("launch-type", "spot"), ("capacity-reservation-id", "cr-1")],
    );
    assert!(choose(&catalogue(), &Market::default(), &auto(), &both).is_err());
}

#[test]
fn zones_prices_and_shortages_of_the_market_count() {
    let place = |zone: &str| ("c6a.xlarge".to_owned(), zone.to_owned());
    let market = Market {
        spot: [
            (place("a"), Price::parse("0.09").unwrap()),
            (place("b"), Price::parse("0.05").unwrap()),
            (place("c"), Price::parse("0.2").unwrap()),
        ]
        .into(),
        offered: Some([place("a"), place("b"), place("c"), place("d")].into()),
        unavailable: [(Launch::Spot, place("b"))].into(),
        ..Market::default()
    };
    let wish = request(
        json!({"cpu": 1}),
        &[("launch-type", "spot"), ("max-spot-price", "0.1")],
    );
    let ranking = choose(&catalogue(), &market, &auto(), &wish).unwrap();
    let zones: Vec<_> = ranking
        .offers
        .iter()
        .map(|o| (o.zone.as_deref().unwrap(), o.price))
        .collect();
    assert_eq!(zones, [("a", Price::parse("0.09")), ("d", None)]);
    assert!(
        ranking
            .left_out
            .contains(&("c6i.xlarge".into(), Reason::NotOffered))
    );
}

#[test]
fn an_unknown_price_is_never_free() {
    let limited = Policy {
        max_hourly: Price::parse("1000"),
        ..auto()
    };
    let wish = request(
        json!({"nvidia.com/gpu": 8}),
        &[("instance-type", "p5e.48xlarge,p5en.48xlarge")],
    );
    assert_eq!(ranked(&wish), ["p5en.48xlarge", "p5e.48xlarge"]);
    let ranking = choose(&catalogue(), &Market::default(), &limited, &wish).unwrap();
    assert_eq!(ranking.offers.len(), 1);
}

fn requests() -> impl Strategy<Value = Request> {
    (
        0u32..200,
        0u32..2000,
        0u32..9,
        0u32..3,
        0u32..3,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(cpu, gib, gpus, neuron, efa, arm, burstable, oversize)| {
            let mut request = request(json!({"cpu": cpu, "memory": format!("{gib}Gi")}), &[]);
            // Mostly none, so that ordinary types are met as well.
            request.gpus = if gpus > 4 { gpus } else { 0 };
            (request.neuron, request.efa) = (neuron.saturating_sub(1), efa.saturating_sub(1));
            request.arch = if arm { Arch::Arm64 } else { Arch::Amd64 };
            (request.burstable, request.oversize) = (burstable, oversize);
            request
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn never_too_small_and_never_an_accelerator_unasked(request in requests()) {
        let catalogue = catalogue();
        let ranking = choose(&catalogue, &Market::default(), &auto(), &request).unwrap();
        prop_assert_eq!(ranking.offers.len() + ranking.left_out.len(), catalogue.types.len());
        for offer in &ranking.offers {
            let kind = catalogue.get(&offer.name).unwrap();
            prop_assert!(Amount::units(kind.vcpu.into()) >= request.cpu && kind.arch == request.arch);
            prop_assert!(Amount::units((kind.memory_mib << 20).cast_signed()) >= request.memory + RESERVE);
            prop_assert!(devices(kind, Kind::Nvidia) >= request.gpus && devices(kind, Kind::Neuron) >= request.neuron);
            prop_assert!(kind.efa >= request.efa);
            let asked = request.gpus + request.neuron > 0;
            prop_assert!(kind.accelerator.is_none() || asked, "{} unasked", offer.name);
        }
        prop_assert!(ranking.offers.windows(2).all(|two| two[1].price.is_none() || two[0].price <= two[1].price));
    }

    #[test]
    fn a_price_that_rises_never_improves_a_rank(request in requests(), pick in any::<prop::sample::Index>(), more in 1u64..100_000_000) {
        let catalogue = catalogue();
        let before = choose(&catalogue, &Market::default(), &auto(), &request).unwrap().offers;
        prop_assume!(!before.is_empty());
        let place = pick.index(before.len());
        let name = &before[place].name;
        let Some(price) = catalogue.get(name).unwrap().price else { return Ok(()) };
        let market = Market { on_demand: [(name.clone(), price.plus(more))].into(), ..Market::default() };
        let after = choose(&catalogue, &market, &auto(), &request).unwrap().offers;
        prop_assert!(after.iter().position(|offer| offer.name == *name).unwrap() >= place);
    }
}
