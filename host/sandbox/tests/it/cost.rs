//! What a call costs. Measured on request, and never asserted.

use opyard_model::limits::Limits;
use opyard_model::step::Call;
use serde_json::json;

use crate::harness::Probe;

#[tokio::test]
#[ignore = "measures, and tests nothing"]
async fn warm_tiny_ops() {
    let probe = Probe::new().await;
    for op in ["noop", "text"] {
        let config = if op == "noop" { json!({}) } else { json!({ "text": "x" }) };
        let call = probe.call(op, config, Vec::new());
        let run = async || probe.bench.request(Call::Op(Box::new(call.clone())), Limits::default()).await;
        for _ in 0..200 {
            run().await;
        }
        let (rounds, mut cpu, start) = (5_000, std::time::Duration::ZERO, std::time::Instant::now());
        for _ in 0..rounds {
            let came = run().await;
            assert!(came.memoisable());
            cpu += came.outcome.usage.cpu;
        }
        eprintln!("{op}: {:?} a call, {:?} of it CPU inside", start.elapsed() / rounds, cpu / rounds);
    }
}
