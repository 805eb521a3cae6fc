"""Cycle-SDE, Inpaint, DiffEdit and DDIB in the real server: against the core, to the bit, on real networks, misused."""

from functools import partial

import pytest
import torch
from comfyui.pack.denoiser import TinyDenoiser, waves
from comfyui.prompts import assert_clear
from comfyui.server import Refused
from comfyui.test_models import ARCHITECTURES, KINDS, Workflow, process_in, process_out, run, ve
from confident_ode.samplers.cycle import cycle_sde, record
from confident_ode.samplers.ddib import translate_by_ode, translate_by_sde
from confident_ode.samplers.denoisers import classifier_free_guidance
from confident_ode.samplers.diffedit import disagreement, mask_from
from confident_ode.samplers.inpaint import INPAINTERS, inpaint
from confident_ode.samplers.noise import INPAINT, MASK_MAPS, RECORD, seeded_noise
from confident_ode.samplers.ode import ab2
from confident_ode.samplers.restore import encode_path
from confident_ode.samplers.trajectory import Trajectory
from safetensors.torch import save_file

SHOWN, WANTED, NOTHING = 0.3, -0.4, 0.1  # what prompts move the mean of the tiny model's pictures by
EXACT = {"atol": 0, "rtol": 0}


class Editing(Workflow):
    """A workflow with a MODEL, two pictures, a path, two prompts, a negative one and a mask with soft edges."""

    def __init__(self, kind="eps", **picture):
        super().__init__()
        self.model, self.kind = self.tiny(kind), kind
        self.use(**picture)

    def use(self, tokens=4, prompts=({"value": SHOWN}, {"value": WANTED}, {"value": NOTHING}), **picture):
        self.latent = self.picture(means="1,0,-1", **picture)
        self.sigmas = self.schedule(self.model, steps=6)
        self.source, self.target, self.negative = (self.prompt(tokens=tokens, **prompt) for prompt in prompts)
        nothing = self.node("SolidMask", value=0.0, width=8, height=8)[0]
        soft = self.node("SolidMask", value=1.0, width=5, height=5)[0]
        soft = self.node("FeatherMask", mask=soft, left=2, top=2, right=0, bottom=0)[0]
        self.mask = self.node("MaskComposite", destination=nothing, source=soft, x=2, y=2, operation="add")[0]

    def edit(self, name, **changes):
        """A node that takes the source and the target, with quick settings but for `changes`."""
        given = {"model": self.model, "latent": self.latent, "source": self.source, "target": self.target, "seed": 5}
        given |= {"cfg": 1.0} if name == "DiffEditMask" else {"sigmas": self.sigmas, "cfg": 3.0}
        given |= {"record": "markov", "eta": 1.0} if name == "CycleSDE" else {}
        given |= {"kind": "sde"} if name in ("DDIB", "DiffEdit") else {}
        given |= {"mask": self.mask} if name == "DiffEdit" else {}
        return self.node(f"CODE_{name}", **{**given, "negative": self.negative, **changes})

    def same(self, name, **changes):
        """`edit` under one condition and one cfg on both sides."""
        return self.edit(name, target=self.source, **{"cfg": 7.5, "source_cfg": 7.5, **changes})

    def wanted_in_part(self):
        """The target where the mask is 1, and the source where it is 0."""
        outside = self.node("InvertMask", mask=self.mask)[0]
        parts = [
            self.node("ConditioningSetMask", conditioning=prompt, mask=mask, strength=1.0, set_cond_area="default")[0]
            for prompt, mask in ((self.target, self.mask), (self.source, outside))
        ]
        return self.node("ConditioningCombine", conditioning_1=parts[0], conditioning_2=parts[1])[0]

    def fill(self, **changes):
        given = {"model": self.model, "latent": self.latent, "sigmas": self.sigmas, "positive": self.source}
        given |= {"solver": "ddpm", "noise": "fresh", "repeats": 1, "seed": 5, "mask": self.mask}
        return self.node("CODE_Inpaint", **{**given, **changes})


RECORDS = {
    "markov": {},
    "independent": {"record": "independent"},
    "posterior": {"record": "posterior", "eta": 0.3},
    "recorded": {"form": "recorded noise"},
    "both guided": {"source_cfg": 2.0},
}
FILLINGS = {solver: {"solver": solver} for solver in INPAINTERS}
FILLINGS |= {"fixed": {"noise": "fixed"}, "repeated": {"repeats": 3}}
TRANSLATIONS = {"sde": {}, "ode": {"kind": "ode"}, "ode euler": {"kind": "ode", "solver": "euler"}}
MASKED = ("cycle masked", "DiffEdit sde", "DiffEdit ode", *FILLINGS)
STAGES = (*RECORDS, *FILLINGS, "cycle masked", "inverted", "away")
STAGES += tuple(f"{name} {kind}" for name in ("DDIB", "DiffEdit") for kind in TRANSLATIONS)


def every_edit(kind):
    graph = Editing(kind)
    for name, settings in RECORDS.items():
        edited = graph.edit("CycleSDE", **settings)
        graph.save(f"{kind}-{name}", latent=edited[0], text=edited[2])
    graph.save(f"{kind}-cycle masked", latent=graph.edit("CycleSDE", mask=graph.mask)[0])
    inverted = graph.invert(graph.model, graph.latent, graph.sigmas, graph.source)
    direct = graph.edit("CycleSDE", eta=0.0, trajectory=inverted[2], sigmas=inverted[1])
    graph.save(f"{kind}-inverted", latent=direct[0])
    graph.save(f"{kind}-away", latent=graph.edit("DDIB", negative=graph.source)[0])
    without = graph.edit("DDIB")
    del graph[without]["inputs"]["negative"]
    graph.save(f"{kind}-without negative", latent=without[0])
    for node in ("DDIB", "DiffEdit"):
        for name, settings in TRANSLATIONS.items():
            graph.save(f"{kind}-{node} {name}", latent=graph.edit(node, **settings)[0])
    for name, settings in FILLINGS.items():
        graph.save(f"{kind}-{name}", latent=graph.fill(**settings)[0])
    finding = partial(graph.edit, "DiffEditMask", target=graph.wanted_in_part(), maps=3, strength=0.7)
    for name, settings in {"found": {}, "soft": {"grow": 3, "blur": 1.5}, "guided": {"cfg": 7.5}}.items():
        found = finding(**settings)
        graph.save(f"{kind}-{name}", mask=found[0], image=found[1])
    graph.save(f"{kind}-level", sigmas=graph.schedule(graph.model, steps=1, depth=0.7, unit="fraction"))
    graph.save(f"{kind}-picture", latent=graph.latent, sigmas=graph.sigmas, mask=graph.mask)
    return graph


@pytest.fixture(scope="module")
def through_comfyui(server):
    """{kind: {stage: what the nodes gave}}."""
    given = {}
    for kind in KINDS:
        saved = run(server, every_edit(kind))
        names = (*STAGES, "picture", "without negative", "found", "soft", "guided", "level")
        given[kind] = {stage: saved(f"{kind}-{stage}") for stage in names}
    return given


def seen(shift, cfg=1.0, away=NOTHING):
    """TinyDenoiser under a prompt, guided away from another."""
    guided = classifier_free_guidance(TinyDenoiser(), cfg, {"shift": away})
    return lambda x, sigma: guided(x, sigma, shift=torch.full((len(x),), shift))


@pytest.fixture(scope="module")
def by_the_core(through_comfyui):
    """{stage: what the core's functions give for the same pictures}."""
    picture = through_comfyui["eps"]["picture"]
    x, path, mask = process_in(picture["latent"]), ve("eps", picture["sigmas"]), picture["mask"][:, None]
    source, target = seen(SHOWN), seen(WANTED, 3.0)
    noise = seeded_noise([5, 6], RECORD)

    def cycle(kind="markov", eta=1.0, source=source, **settings):
        states = record(x, path, noise, kind, eta)
        start = states.states[path[0].item()]
        return cycle_sde(target, start, path, path=states, source=source, eta=eta, **settings)

    results = {
        "markov": cycle(),
        "independent": cycle("independent"),
        "posterior": cycle("posterior", 0.3),
        "recorded": cycle(recorded_noise=True),
        "both guided": cycle(source=seen(SHOWN, 2.0)),
        "cycle masked": cycle(mask=mask),
    }
    trajectory, up = Trajectory(x), encode_path(path)
    start = trajectory.reached(up[-1].item(), ab2(source, x, up, callback=trajectory))
    results["inverted"] = cycle_sde(target, start, path, path=trajectory, source=source, eta=0.0)
    for name, held in {"DDIB": None, "DiffEdit": mask}.items():
        settings = {"source": source, "mask": held}
        results[f"{name} sde"] = translate_by_sde(target, x, path, noise_sampler=noise, **settings)
        results[f"{name} ode"] = translate_by_ode(target, x, path, **settings)
        results[f"{name} ode euler"] = translate_by_ode(target, x, path, solver="euler", **settings)
    away = seen(WANTED, 3.0, away=SHOWN)
    results["away"] = translate_by_sde(away, x, path, noise_sampler=noise, source=source)
    fill = partial(inpaint, source, x, path, mask=mask, noise_sampler=seeded_noise([5, 6], INPAINT))
    results |= {solver: fill(solver=solver) for solver in INPAINTERS}
    results |= {"fixed": fill(fixed_noise=True), "repeated": fill(repeats=3)}
    return {stage: process_out(x) for stage, x in results.items()}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_model_gives_the_cores_picture(through_comfyui, by_the_core, kind, stage):
    # the recorded noise is found by a division, which loses digits
    least = 1e-3 if stage == "recorded" else 2e-4
    torch.testing.assert_close(through_comfyui[kind][stage]["latent"], by_the_core[stage], atol=least, rtol=0)


def test_the_edits_are_not_all_one(by_the_core):
    same = {"recorded": "markov", "DDIB sde": "markov", "DiffEdit sde": "cycle masked"}
    results = [by_the_core[stage] for stage in STAGES if stage not in same]
    for i, a in enumerate(results):
        assert all((a - b).abs().max() > 1e-3 for b in results[:i])
    for stage, as_well in same.items():
        torch.testing.assert_close(by_the_core[stage], by_the_core[as_well], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_without_negative_it_is_guided_away_from_the_source(through_comfyui, kind):
    given = through_comfyui[kind]
    torch.testing.assert_close(given["without negative"]["latent"], given["away"]["latent"], **EXACT)


@pytest.mark.parametrize("stage", MASKED)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_outside_the_mask_stays_bit_for_bit(through_comfyui, kind, stage):
    """In latents, whose scale rounds on the way in and out."""
    given = through_comfyui[kind]
    outside = (given["picture"]["mask"] == 0)[:, None].expand_as(given["picture"]["latent"])
    assert 0.5 < outside.float().mean() < 0.9
    before, after = given["picture"]["latent"], given[stage]["latent"]
    torch.testing.assert_close(after[outside], before[outside], **EXACT)
    assert ((after != before)[~outside]).float().mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_says_the_calls_and_how_far_it_moved(through_comfyui, kind):
    text = through_comfyui[kind]["markov"]["text"]
    assert text.startswith("14 network calls from sigma 3 down; the picture lies at ")
    assert text.endswith(" dB PSNR from what went in.")


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_is_that_of_the_core(through_comfyui, kind):
    """At eight times the latent's size, each place of it a square; heat is what its threshold looks at."""
    given = through_comfyui[kind]
    x = process_in(given["picture"]["latent"])
    level = ve(kind, given["level"]["sigmas"])[:1]
    noise = seeded_noise([5, 6], MASK_MAPS)
    source, target, where = seen(SHOWN), seen(WANTED), given["picture"]["mask"][:, None]
    in_part = lambda x, sigma: where * target(x, sigma) + (1 - where) * source(x, sigma)  # noqa: E731
    difference = disagreement(in_part, x, level, source=source, noise_sampler=noise, maps=3)
    large = difference.repeat_interleave(8, -2).repeat_interleave(8, -1)
    found, soft = given["found"]["mask"], given["soft"]["mask"]
    assert found.shape == (2, 64, 64)
    assert 0 < found.mean() < 1
    assert (found != mask_from(large)[:, 0]).float().mean() < 0.02
    heat = (large / (3 * difference.mean((1, 2, 3), keepdim=True))).clamp(max=1).movedim(1, -1)
    torch.testing.assert_close(given["found"]["image"], heat.expand(-1, -1, -1, 3), atol=2e-3, rtol=0)
    assert ((soft > 0) & (soft < 1)).any()
    assert soft.mean() > found.mean()


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_of_both_sides_leaves_the_mask(through_comfyui, kind):
    """As it multiplies all differences alike."""
    given = through_comfyui[kind]
    assert (given["guided"]["mask"] != given["found"]["mask"]).float().mean() < 0.02


@pytest.mark.parametrize("cfg", [7.5, 15.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_condition_returns_the_picture_to_the_bit(server, kind, cfg):
    """Beside the form that records the noise, whose error is printed; by the inversion under any guidance, too."""
    graph = Editing(kind)
    both = {"cfg": cfg, "source_cfg": cfg}
    inverted = graph.invert(graph.model, graph.latent, graph.sigmas, graph.source)
    direct = {"eta": 0.0, "trajectory": inverted[2], "sigmas": inverted[1]}
    ways = {"delta": {}, "independent": {"record": "independent"}, "direct": direct}
    for name, settings in {**ways, "recorded": {"form": "recorded noise"}}.items():
        back = graph.same("CycleSDE", **both, **settings)
        graph.save(f"same-{name}", latent=back[0], text=back[2])
    for name in ("DDIB", "DiffEdit"):
        graph.save(f"same-{name}", latent=graph.same(name, **both)[0])
    graph.save("same-picture", latent=graph.latent)
    saved = run(server, graph)
    picture = saved("same-picture")["latent"]
    for name in (*ways, "DDIB", "DiffEdit"):
        torch.testing.assert_close(saved(f"same-{name}")["latent"], picture, **EXACT)
    assert saved("same-delta")["text"].endswith("; the picture came back bit for bit.")
    error = (saved("same-recorded")["latent"] - picture).abs().max().item()
    print(f"{kind}, cfg {cfg:g}: 0 by the delta form, {error:.1e} by the recorded noise")
    assert 0 < error < 0.1


def test_the_prior_returns_a_flower_to_the_bit(server):
    graph = Editing()
    prior = graph.node("CODE_LoadPixelPrior", prior="flowers32", hub_id="", dynamic_threshold=False)
    picture = graph.node("TEST_SmallExample", picture="rose-2", damage="none", seed=0)[1]
    graph.model, graph.negative = prior[0], prior[2]
    graph.latent = graph.node("VAEEncode", pixels=picture, vae=prior[1])[0]
    graph.sigmas = graph.schedule(graph.model, steps=5, depth=0.6, unit="fraction")
    graph.source, graph.target = (
        graph.node("CODE_ClassCondition", model=graph.model, label=label)[0] for label in ("rose", "daisy")
    )
    graph.save("flower", latent=graph.latent)
    graph.save("another", latent=graph.edit("CycleSDE")[0])
    for cfg in (7.5, 15.0):
        graph.save(f"flower-{cfg}", latent=graph.same("CycleSDE", cfg=cfg, source_cfg=cfg)[0])
    saved = run(server, graph)
    for cfg in (7.5, 15.0):
        torch.testing.assert_close(saved(f"flower-{cfg}")["latent"], saved("flower")["latent"], **EXACT)
    assert (saved("another")["latent"] - saved("flower")["latent"]).abs().mean() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_of_everything_is_none(server, kind):
    graph = Editing(kind)
    everything = graph.node("SolidMask", value=1.0, width=8, height=8)[0]
    graph.save("free", latent=graph.edit("CycleSDE")[0])
    graph.save("masked", latent=graph.edit("CycleSDE", mask=everything)[0])
    graph.save("DiffEdit", latent=graph.edit("DiffEdit", mask=everything)[0])
    saved = run(server, graph)
    for name in ("masked", "DiffEdit"):
        torch.testing.assert_close(saved(name)["latent"], saved("free")["latent"], **EXACT)


def test_two_prompts_that_say_the_same_find_nothing(server):
    graph = Editing()
    found = graph.edit("DiffEditMask", target=graph.source, maps=2)
    graph.save("nothing", mask=found[0], image=found[1])
    saved = run(server, graph)("nothing")
    assert not saved["mask"].any()
    assert not saved["image"].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_equals_its_pictures_alone(server, kind):
    graph = Editing(kind, batch=3)
    pictures = graph.latent
    edits = {
        "cycle": lambda: graph.edit("CycleSDE"),
        "filled": graph.fill,
        "DDIB": lambda: graph.edit("DDIB", kind="ode"),
        "DiffEdit": lambda: graph.edit("DiffEdit"),
    }
    singles = [graph.node("LatentFromBatch", samples=pictures, batch_index=i, length=1)[0] for i in range(3)]
    for number, graph.latent in {"batch": pictures, **dict(enumerate(singles))}.items():
        for name, edit in edits.items():
            graph.save(f"{name}-{number}", latent=edit()[0])
        graph.save(f"found-{number}", image=graph.edit("DiffEditMask", maps=2)[1])
    saved = run(server, graph)
    for name in edits:
        alone = torch.cat([saved(f"{name}-{i}")["latent"] for i in range(3)])
        torch.testing.assert_close(saved(f"{name}-batch")["latent"], alone, atol=1e-4, rtol=0)
    alone = torch.cat([saved(f"found-{i}")["image"] for i in range(3)])
    torch.testing.assert_close(saved("found-batch")["image"], alone, atol=1e-4, rtol=0)


def test_the_mask_of_the_latent_is_filled(server):
    graph = Editing()
    masked = graph.node("SetLatentNoiseMask", samples=graph.latent, mask=graph.mask)[0]
    graph.save("given", latent=graph.fill()[0])
    travelled = graph.fill(latent=masked)
    del graph[travelled]["inputs"]["mask"]
    graph.save("travelled", latent=travelled[0])
    saved = run(server, graph)
    torch.testing.assert_close(saved("travelled")["latent"], saved("given")["latent"], **EXACT)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_lora_on_one_condition_acts_on_that_alone(server, side):
    denoiser = TinyDenoiser()
    change = 0.3 * waves(denoiser.last.weight.shape, 5)
    (server.models / "loras").mkdir(exist_ok=True)
    save_file({"diffusion_model.denoiser.last.diff": change}, server.models / "loras/tiny.safetensors")
    graph = Editing()
    hook = graph.node("CreateHookLoraModelOnly", lora_name="tiny.safetensors", strength_model=0.5)[0]
    plain = getattr(graph, side)
    hooked = graph.node("ConditioningSetProperties", cond_NEW=plain, strength=1.0, set_cond_area="default", hooks=hook)
    graph.save("hooked", latent=graph.edit("CycleSDE", cfg=1.0, **{side: hooked[0]})[0], sigmas=graph.sigmas)
    graph.save("plain", latent=graph.latent)
    saved = run(server, graph)
    denoiser.last.weight += 0.5 * change
    branches = {name: seen(shift) for name, shift in (("source", SHOWN), ("target", WANTED))}
    shift = SHOWN if side == "source" else WANTED
    branches[side] = lambda x, sigma: denoiser(x, sigma, shift)
    x, path = process_in(saved("plain")["latent"]), ve("eps", saved("hooked")["sigmas"])
    noise = seeded_noise([5, 6], RECORD)
    expected = translate_by_sde(branches["target"], x, path, source=branches["source"], noise_sampler=noise)
    torch.testing.assert_close(saved("hooked")["latent"], process_out(expected), atol=2e-4, rtol=0)


@pytest.mark.parametrize("kind", ["eps", "flow"])
def test_progress_counts_the_steps_of_the_way(server, kind):
    graph = Editing(kind)
    # from the schedule's 7 steps, of which an inversion climbs 6
    nodes = {graph.edit("CycleSDE"): 7, graph.edit("DDIB", kind="ode"): 13, graph.fill(repeats=2): 13}
    nodes[graph.edit("DiffEditMask", maps=4)] = 4
    for i, node in enumerate(nodes):
        graph.save(f"progress-{i}", **{"mask" if nodes[node] == 4 else "latent": node[0]})
    finished = server.run(graph)
    assert finished.succeeded, finished.error
    for node, steps in nodes.items():
        told = [(data["value"], data["max"]) for data in finished.of("progress") if data["node"] == node]
        assert told == [(i + 1, steps) for i in range(steps)]


REAL = ("sd15", "sdxl", "sd3")


@pytest.fixture(scope="module")
def networks(server, give_weights):
    """Random weights of these networks in the server's models folder, for as long as this file needs them."""
    give_weights(server, *REAL)
    yield
    for name in REAL:
        (server.models / "diffusion_models" / f"{name}.safetensors").unlink()
    server.post("free", unload_models=True, free_memory=True)


@pytest.mark.parametrize("network", REAL)
def test_a_real_network_edits_under_prompts(server, networks, network):
    """The same prompt returns the picture to the bit; another one moves it, inside the mask alone."""
    known, graph = ARCHITECTURES[network], Editing()
    graph.model = graph.node("UNETLoader", unet_name=f"{network}.safetensors", weight_dtype="default")[0]
    prompts = [{"fill": "normal", "width": known.width, "pooled": known.pooled, "seed": i} for i in range(3)]
    graph.use(prompts=prompts, batch=1, channels=known.channels)
    graph.latent = graph.node("LatentMultiply", samples=graph.latent, multiplier=1 / known.scale)[0]
    graph.sigmas = graph.schedule(graph.model, steps=2, depth=0.5, unit="fraction")
    graph.save("real-picture", latent=graph.latent, mask=graph.mask)
    graph.save("real-same", latent=graph.same("CycleSDE")[0])
    graph.save("real-sde", latent=graph.edit("DiffEdit")[0])
    graph.save("real-ode", latent=graph.edit("DiffEdit", kind="ode", solver="euler")[0])
    graph.save("real-filled", latent=graph.fill()[0])
    found = graph.edit("DiffEditMask", maps=1)
    graph.save("real-found", mask=found[0], image=found[1])
    saved = run(server, graph, timeout=300)
    picture, mask = saved("real-picture")["latent"], saved("real-picture")["mask"]
    torch.testing.assert_close(saved("real-same")["latent"], picture, **EXACT)
    outside = (mask == 0)[:, None].expand_as(picture)
    for name in ("sde", "ode", "filled"):
        edited = saved(f"real-{name}")["latent"]
        assert edited.isfinite().all()
        torch.testing.assert_close(edited[outside], picture[outside], **EXACT)
        assert ((edited - picture)[~outside] * known.scale).std() > 1e-3
    assert saved("real-found")["mask"].shape == (1, 64, 64)
    assert saved("real-found")["image"].std() > 0.01


def link(number):
    """A number over a link, against which ComfyUI holds no limit."""
    kind = "PrimitiveInt" if isinstance(number, int) else "PrimitiveFloat"
    return lambda graph: graph.node(kind, value=number)[0]


def other(**picture):
    return lambda graph: graph.picture(**picture)


def solid(value=1.0, **size):
    return lambda graph: graph.node("SolidMask", value=value, **{"width": 8, "height": 8, **size})[0]


def levels(text):
    return lambda graph: graph.node("TEST_Sigmas", levels=text)[0]


def inversion(latent=None, sigmas=None):
    return lambda graph: graph.invert(
        graph.model,
        latent(graph) if latent else graph.latent,
        sigmas(graph) if sigmas else graph.sigmas,
        graph.source,
    )[2]


ONE_OF, PAINT, ANOTHER = "take one of", "paint what is to be changed", "The trajectory is that of another picture"
DIRECT = {"eta": 0.0}
MASKS = {"height": 8, "width": 8, "fill": "normal", "value": 0.5, "seed": 0}
# (node, what is said, what is wrong)
WRONG = [
    ("CycleSDE", ONE_OF, {"record": "x"}),
    ("CycleSDE", ONE_OF, {"form": "x"}),
    ("CycleSDE", "take 0, the ODE, to 1", {"eta": link(1.5)}),
    ("CycleSDE", "take 0, the ODE, to 1", {"eta": "nan"}),
    ("CycleSDE", ANOTHER, {**DIRECT, "trajectory": inversion(other(height=16))}),
    ("CycleSDE", ANOTHER, {**DIRECT, "trajectory": inversion(other(seed=7))}),
    ("CycleSDE", "decode with the SIGMAS", {**DIRECT, "trajectory": inversion(sigmas=levels("3,1,0.1"))}),
    ("DDIB", ONE_OF, {"kind": "x"}),
    ("DDIB", ONE_OF, {"kind": "ode", "solver": "x"}),
    ("DDIB", "at least two sigmas", {"kind": "ode", "sigmas": levels("3,0")}),
    ("DiffEdit", "give one, or one each", {"mask": lambda graph: graph.node("TEST_Mask", batch=3, **MASKS)[0]}),
    ("Inpaint", ONE_OF, {"solver": "x"}),
    ("Inpaint", ONE_OF, {"noise": "x"}),
    ("Inpaint", "at least 1 step", {"repeats": link(0)}),
    ("Inpaint", "connect a mask", {"mask": None}),
    ("DiffEditMask", "at least 1 map", {"maps": link(0)}),
    ("DiffEditMask", "take one above 0 and up to 1", {"strength": link(0.0)}),
    ("DiffEditMask", "is no fraction", {"strength": "nan"}),
    ("DiffEditMask", "take a ratio above 0", {"ratio": "nan"}),
    ("DiffEditMask", "take a ratio above 0", {"threshold": link(1.5)}),
    ("DiffEditMask", "take 0 or more", {"grow": link(-1)}),
    ("DiffEditMask", "take 0 or more", {"blur": link(-1.0)}),
]
for node in ("CycleSDE", "DDIB", "DiffEdit", "DiffEditMask", "Inpaint"):
    WRONG += [
        (node, "with the VAE that belongs to this model", {"latent": other(channels=3)}),
        (node, "NaN or infinity", {"latent": other(fill="nan")}),
        (node, "The cfg is nan", {"cfg": "nan"}),
    ]
    if node != "DiffEditMask":
        WRONG.append((node, "decode order", {"sigmas": levels("0.1,1,3")}))
        WRONG.append((node, "take less depth", {"sigmas": levels("101,1,0")}))
    if node in ("CycleSDE", "DiffEdit", "Inpaint"):
        WRONG.append((node, PAINT, {"mask": solid(0.0)}))
        WRONG.append((node, "mask of the picture's size", {"mask": solid(width=5)}))
    if node != "Inpaint":
        WRONG.append((node, "connect negative", {"negative": None, "source_cfg": 2.0, "cfg": 2.0}))
        WRONG.append((node, "The source conditioning is empty", {"source": lambda graph: graph.prompt(entries=0)}))
        WRONG.append((node, "The target conditioning is empty", {"target": lambda graph: graph.prompt(entries=0)}))


@pytest.mark.parametrize(("name", "says", "changes"), WRONG)
def test_wrong_use_gets_a_sentence(server, name, says, changes):
    graph = Editing()
    changes = {key: value(graph) if callable(value) else value for key, value in changes.items()}
    node = graph.fill(**changes) if name == "Inpaint" else graph.edit(name, **changes)
    inputs = graph[node]["inputs"]
    graph[node]["inputs"] = {key: value for key, value in inputs.items() if value is not None}
    graph.save("wrong", **{"mask" if name == "DiffEditMask" else "latent": node[0]})
    refused = None
    try:
        done = server.run(graph)
    except Refused as caught:
        refused = caught
    if refused:  # newer versions of ComfyUI know that a choice is none before a node runs
        assert says == ONE_OF
        assert {e["type"] for e in refused.node_errors[node]["errors"]} == {"value_not_in_list"}
        return
    assert done.error is not None, "nothing was said"
    assert done.error["node_id"] == node
    assert_clear(done.error)
    assert says in done.error["exception_message"]


@pytest.mark.parametrize("name", ["CycleSDE", "DDIB", "DiffEditMask"])
def test_a_target_without_a_class_cannot_be_guided_to(server, name):
    graph = Editing()
    prior = graph.node("CODE_LoadPixelPrior", prior="flowers32", hub_id="", dynamic_threshold=False)
    graph.model, graph.source, graph.target, graph.negative = prior[0], prior[2], prior[2], prior[2]
    graph.latent = graph.picture(batch=1, channels=3, height=32, width=32)
    node = graph.edit(name, cfg=3.0)
    graph.save("wrong", **{"mask" if name == "DiffEditMask" else "latent": node[0]})
    done = server.run(graph)
    assert_clear(done.error)
    assert "connect Class Condition to target" in done.error["exception_message"]
