//! A random job whose result can be told beforehand.

use std::fmt::Write as _;

/// SplitMix64: one seed, one history. (Sebastiano Vigna, `splitmix64.c`.)
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A definitions file, and what comes out of it.
pub(crate) struct Job {
    pub(crate) definitions: String,
    /// What the step `total` gives.
    pub(crate) total: f64,
}

impl Job {
    /// Constants, sums of what came before, items that are doubled and collected, a large value with its digest, an effect
    /// outside, a value that an IO manager keeps outside, and the sum of it all.
    pub(crate) fn new(random: &mut Random) -> Self {
        let mut steps = String::new();
        let mut numbers: Vec<(String, f64)> = Vec::new();
        for at in 0..3 + random.below(5) {
            let name = format!("n{at}");
            if numbers.is_empty() || random.below(3) == 0 {
                let value = random.below(1_000);
                writeln!(steps, "      {name}: {{ op: probe.const, config: {{ value: {value} }}, pool: narrow }}")
                    .unwrap();
                numbers.push((name, value as f64));
            } else {
                let picked: Vec<_> = (0..1 + random.below(3))
                    .map(|_| numbers[usize::try_from(random.below(numbers.len() as u64)).unwrap()].clone())
                    .collect();
                let names: Vec<_> = picked.iter().map(|(name, _)| name.as_str()).collect();
                let sum = picked.iter().map(|(_, value)| value).sum();
                let names = names.join(", ");
                writeln!(steps, "      {name}: {{ op: probe.add, inputs: {{ numbers: [{names}] }} }}").unwrap();
                numbers.push((name, sum));
            }
        }
        if random.below(2) == 0 {
            let items = random.below(5);
            writeln!(
                steps,
                "      fan: {{ op: probe.fan, config: {{ items: {items} }} }}\n      \
                 twice: {{ op: probe.item, inputs: {{ value: fan }} }}\n      \
                 items: {{ op: probe.add, inputs: {{ numbers: {{ collect: twice }} }} }}"
            )
            .unwrap();
            numbers.push(("items".to_owned(), (0..items).map(|item| item as f64 * 2.0).sum()));
        }
        if random.below(2) == 0 {
            steps.push_str(
                "      big: { op: probe.big, config: { mib: 1 } }\n      size: { op: probe.digest, inputs: { value: big } }\n",
            );
        }
        if random.below(2) == 0 {
            let (last, _) = numbers.last().unwrap();
            writeln!(
                steps,
                "      touch: {{ op: probe.touch, after: [{last}], config: {{ path: there/file, text: again }} }}"
            )
            .unwrap();
        }
        steps.push_str("      word: { op: probe.text, config: { text: kept }, io_manager: { result: files } }\n");
        let names: Vec<_> = numbers.iter().map(|(name, _)| name.as_str()).collect();
        writeln!(steps, "      total: {{ op: probe.add, inputs: {{ numbers: [{}] }} }}", names.join(", ")).unwrap();
        let definitions = format!(
            "opyard: 1\ncomponents:\n  probe: {{ path: \"{{{{probe}}}}\" }}\n\
             resources:\n  store: {{ kind: object_store, url: \"file:./outside\", access: read_write }}\n\
             io_managers:\n  files: {{ kind: object_store, url: \"file:./files\", path: \"{{step}}.txt\" }}\n\
             pools: {{ narrow: {{ limit: 1 }} }}\nrun_queue: {{ limit: 1 }}\n\
             grants:\n  probe.touch: {{ resources: {{ store: store }} }}\n\
             jobs:\n  work:\n    steps:\n{steps}"
        );
        Self { definitions, total: numbers.iter().map(|(_, value)| value).sum() }
    }
}
