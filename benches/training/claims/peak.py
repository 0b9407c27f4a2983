"""The fraction of the machine's matmul peak that each phase of hone reaches; the peak is the better of large square products by the
gemm crate and by torch, measured in the same run. Decoding is bound by memory: beside it stands the share of the read bandwidth."""
import statistics

from lib.worker import Worker, alternate


def run(bench):
    square = 512 if bench.arguments.quick else 2048
    sizes = {"sequences": 2, "length": 32, "new_tokens": 4} if bench.arguments.quick else {"sequences": 8, "length": 128, "new_tokens": 32}
    workers = [
        Worker("torch", bench.peer("matmul"), {"square": square}, bench.threads),
        Worker("hone", [bench.worker, "peak"], {"model": bench.model, "square": square, **sizes}, bench.threads),
    ]
    answers, _ = alternate(workers, bench.arguments.repeats or 5)
    median = lambda values: statistics.median(list(values))
    hone = answers["hone"]
    gemm, torch = median(a["gemm_flops"] for a in hone), median(a["flops"] for a in answers["torch"])
    peak, bandwidth = max(gemm, torch), median(a["read_bytes_per_s"] for a in hone)
    phases = {}
    for name in ("forward", "forward_backward", "head", "decode"):
        flops = median(a[name]["flops"] for a in hone)
        took = median(a[name]["seconds"] for a in hone)
        phases[name] = {"gflop_per_s": round(flops / 1e9, 1), "of_peak": round(flops / peak, 3), "seconds": round(took, 4),
                        "tokens_per_s": round(hone[0][name]["tokens"] / took, 1)}
    read = 4 * median(a["decode"]["parameters_read_per_s"] for a in hone)
    phases["decode"].update(f32_weights_gb_per_s=round(read / 1e9, 2), of_read_bandwidth=round(read / bandwidth, 3))
    return {"claim": "each phase's share of the matmul peak", "sizes": {**sizes, "square": square},
            "peak": {"gflop_per_s": round(peak / 1e9, 1), "gemm_crate": round(gemm / 1e9, 1), "torch": round(torch / 1e9, 1),
                     "read_gb_per_s": round(bandwidth / 1e9, 2)}, "phases": phases}
