"""The scaling study of a sweep: fits, frontier and recommendation."""

from dataclasses import dataclass

from minigpt.lab.scaling.advice import Advice, advise
from minigpt.lab.scaling.fits import Fit, fit_scaling
from minigpt.lab.scaling.isoflop import Frontier, Parabola, frontier, parabolas
from minigpt.lab.scaling.law import FittedLaw
from minigpt.lab.scaling.runs import ScalingSweep
from minigpt.system.units import count_text, flops_text


@dataclass(frozen=True, kw_only=True)
class ScalingResult:
    """Both fits, and the recommendation for a budget."""

    sweep: ScalingSweep
    fit: Fit
    parabolas: list[Parabola]
    frontier: Frontier | None
    advice: Advice

    def __repr__(self) -> str:
        """Three lines: the runs, the law, and what to train."""
        best = f"{count_text(self.advice.n_parameters)} parameters and {count_text(self.advice.n_tokens)} tokens"
        return f"{self.sweep}\n{self.fit}\nthe best for {flops_text(self.advice.flops)} FLOPs: {best}"

    def fitted_law(self) -> FittedLaw:
        """The law with the range of its runs, for `minigpt plan`."""
        points, first = self.sweep.points, self.sweep.runs[0]
        sizes, tokens = [point.n_parameters for point in points], [point.n_tokens for point in points]
        return FittedLaw(
            law=self.fit.law,
            name=f"the sweep {self.sweep.name} of {len(points)} runs",
            corpus=first.corpus,
            tokenizer=first.tokenizer,
            vocab_size=first.vocab_size,
            data=first.data,
            tokenizer_fingerprint=first.tokenizer_fingerprint,
            parameters=(min(sizes), max(sizes)),
            tokens=(min(tokens), max(tokens)),
            flops_per_pair=self.fit.flops_per_pair,
            resampled=self.fit.resampled,
            noise=self.fit.noise,
        )


def study_scaling(sweep: ScalingSweep, flops: float, *, bootstraps: int) -> ScalingResult:
    """Fit the runs of `sweep` and recommend what to train for `flops`; raises DataError for too few runs."""
    points = sweep.points
    fit = fit_scaling(points, bootstraps=bootstraps)
    found = parabolas(points)
    line = frontier(found)
    return ScalingResult(
        sweep=sweep, fit=fit, parabolas=found, frontier=line, advice=advise(fit, line, sweep.runs, flops)
    )
