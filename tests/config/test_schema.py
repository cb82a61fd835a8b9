"""Recipes, overrides and their contradictions."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mmae.config.packaged_files import packaged_names
from mmae.config.recipe_file import build_config, load_config, parse_overrides
from mmae.config.schema import Config, Resume, flatten, resume_policy
from mmae.config.score_names import probes_average
from mmae.errors import InputError

RECIPES = [name for name in packaged_names("mmae.recipes", ".yaml") if not name.startswith("finetune_")]


def write(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", RECIPES)
def test_every_packaged_recipe_is_valid_and_says_how_to_run_it(name: str) -> None:
    from mmae.config.packaged_files import find

    config = load_config(name, [])
    head = find(name, "mmae.recipes", ".yaml", "recipe").read_text(encoding="utf-8").split("\nrun:")[0]
    assert config.run.dir == f"runs/{name}"
    for word in ("# command ", "# hardware ", "# outcome "):
        assert word in head


def test_an_empty_section_list_gives_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "{}"), []) == Config()


def test_overrides_win_over_the_recipe_and_keep_their_kinds(tmp_path: Path) -> None:
    recipe = write(tmp_path, "model: {size: tiny}\ntrain: {blr: 1e-3, seed: 1}\n")
    config = load_config(recipe, ["train.seed=7", "train.blr=2e-4", "model.in_domains=[rgb, depth]", "train.stop_at=5"])
    assert (config.model.size, config.train.seed, config.train.blr, config.train.stop_at) == ("tiny", 7, 2e-4, 5)
    assert config.model.in_domains == ("rgb", "depth")


@pytest.mark.parametrize("score", ["ema.val.loss", "ema.eval.biome"])
def test_scores_of_averaged_weights_need_what_the_others_need(score: str) -> None:
    with pytest.raises(InputError, match=r"set (val|eval)\.every"):
        load_config("debug", ["train.ema=64", f"checkpoint.keep_best={score}", "val.every=0"])
    config = load_config("debug", ["train.ema=64", f"checkpoint.keep_best={score}", "val.every=1", "eval.every=1"])
    assert probes_average(config) == (score == "ema.eval.biome")


def test_one_shard_set_or_several(tmp_path: Path) -> None:
    recipe = write(tmp_path, "{}")
    for override, expected in (("data.shards=", []), ("data.shards=a", ["a"]), ("data.shards=[a]", ["a"])):
        assert list(load_config(recipe, [override]).data.locations) == expected
    several = load_config(recipe, ["data.shards=[a, b]", "data.weights=[1, 2.5]"])
    assert list(several.data.locations) == ["a", "b"]
    assert list(several.data.weights or ()) == [1, 2.5]
    assert build_config(flatten(several), "again") == several


def test_a_config_survives_being_flattened_and_built_again() -> None:
    rates = "train.lr_multipliers={encoder: 0.1,*.bias:2}"
    config = load_config("vit_l", ["model.alphas=[1,2,3,4,5,6]", "model.input_size=[56,64]", rates])
    assert config.train.lr_multipliers == {"encoder": 0.1, "*.bias": 2.0}
    assert build_config(flatten(config), "again") == config


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.sise=tiny", "did you mean 'model.size'"),
        ("train.global_bach=3", "did you mean 'train.global_batch'"),
        ("size=tiny", "unknown key 'size'"),
        ("model.size", "not of the form"),
        ("model.size=enormous", "unknown model.size='enormous'"),
        ("model.size=hug", "did you mean 'huge'"),
        ("train.blr=fast", "train.blr=fast: not a number"),
        ("train.blr=-1", "command line: train.blr=-1"),
        ("train.blr=.nan", "train.blr=.nan: not a number"),
        ("train.global_batch=0", "train.global_batch=0"),
        ("train.global_batch=1.5", "train.global_batch=1.5"),
        ("train.stop_at=2000", "behind train.max_steps=1000"),
        ("train.float8=on", "Input should be 'tensorwise' or 'emulated'"),
        ("train.float8=tensorwise", "takes a width of at least 1024 (large and larger), and model.size=base has 768"),
        ("train.profile=5:2", "is not a range of steps"),
        ("train.profile=0:2", "is not a range of steps"),
        ("train.profile=1001:1002", "begins after the last step (1000)"),
        ("train.profile=1:500", "at most 100"),
        ("train.profile=x", "train.profile"),
        ("train.profile=10", "train.profile"),
        ("train.warmup_steps=2000", "longer than the whole schedule"),
        ("model.input_size=60", "not divisible by model.patch_size=8: the nearest that is: 64"),
        ("model.input_size=[56,57]", "model.input_size=57"),
        ("model.patch_size=2", "not divisible by the stride of semseg (4)"),
        ("model.num_encoded_tokens=294", "must be fewer than all 294 tokens"),
        ("model.alphas=[1,1]", "2 entries for 6 input modalities"),
        ("model.alphas=0", "model.alphas=0"),
        ("model.in_domains=[]", "model.in_domains is empty"),
        ("model.in_domains=[rgb,rgb]", "names a modality twice"),
        ("model.in_domains=[rgb,elevation]", "unknown modality 'elevation'"),
        ("model.out_domains=[depth]", "extra_norm_pix_loss needs rgb"),
        ("model.decoder_num_heads=7", "not divisible by model.decoder_num_heads=7"),
        ("model.decoder_dim=6", "not divisible by model.decoder_num_heads"),
        ("train.seed={", "train.seed={: not a whole number"),
        ("data.weights=[1,2]", "data.weights has 2 numbers for 0 shard sets"),
        ("data.weights=[0]", "data.weights"),
        ("data.weights=[.inf]", "data.weights"),
        ("data.weights=[1001]", "data.weights"),
        ("data.shards=[a,b,a]", "data.shards names a twice: give it a weight of 2"),
        ("data.shards=[a,'']", "data.shards holds an empty name"),
        ("data.shards=[a,,b]", "an item of the list is empty"),
        ("data.fraction=0", "data.fraction=0"),
        ("data.fraction=1.5", "data.fraction=1.5"),
        ("data.window=0", "data.window=0"),
        ("data.on_damage=ignore", "data.on_damage='ignore'"),
        ("data.cache_gb=0", "data.cache_gb=0"),
        ("data.workers=1000", "data.workers=1000 are too many loader processes for one rank, at most 128"),
        ("checkpoint.keep_best=val.los", "is not a score of this run; did you mean 'val.loss'"),
        ("checkpoint.keep_best=ema.val.loss", "needs averaged weights: set train.ema"),
        ("eval.averaged=true", "needs averaged weights: set train.ema"),
        ("train.frozen=[]", "train.frozen is empty"),
        ("train.lr_multipliers={}", "train.lr_multipliers is empty"),
        ("train.lr_multipliers=encoder", "write it like {encoder:0.1,decoders:2}"),
        ("train.lr_multipliers={encoder:1,encoder:2}", "encoder stands twice"),
        ("train.lr_multipliers={encoder:fast}", "not a number"),
        ("train.lr_multipliers={encoder:0}", "encoder: 0 is not a number above 0"),
        ("train.lr_multipliers={encoder:1e999}", "encoder: inf is not a number above 0"),
        ("checkpoint.keep_best=eval.slope", "is not a score of this run"),
        ("checkpoint.keep_best=val.rmse.semseg", "is not a score of this run"),
        ("checkpoint.keep_best=eval.biome", "needs probes while training: set eval.every"),
        ("checkpoint.keep_best=val.loss", "needs validations while training: set val.every"),
        ("eval.tasks=[biome,biome]", "eval.tasks names a task twice"),
        ("eval.tiles=0", "eval.tiles=0"),
        ("data.prefetch=100000", "data.prefetch=100000 micro-batches would not fit"),
    ],
)
def test_bad_values_are_refused_in_one_line_that_names_them(tmp_path: Path, override: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config(write(tmp_path, "{}"), [override])
    message = str(caught.value)
    assert says in message
    assert "\n" not in message


def test_float8_on_a_gpu_is_compiled() -> None:
    large = {"model.size": "large", "train.float8": "tensorwise"}
    with pytest.raises(InputError, match=r"train\.float8=tensorwise needs train\.compile=true"):
        build_config(large, "test")
    assert build_config({**large, "train.compile": True}, "test").train.float8 == "tensorwise"
    assert build_config({"model.size": "nano", "train.float8": "emulated"}, "test").train.float8 == "emulated"


def test_warm_up_and_decay_fit_into_the_schedule(tmp_path: Path) -> None:
    said = ["train.schedule=wsd", "train.decay_share=0.5"]
    load_config(write(tmp_path, "{}"), [*said, "train.warmup_steps=500"])
    with pytest.raises(InputError, match=r"warmup_steps=501 and the 500 steps of .* more than the whole schedule"):
        load_config(write(tmp_path, "{}"), [*said, "train.warmup_steps=501"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("run:\n  dir: no", ":2: run.dir: YAML 1.1 reads no as False"),
        ("log: {wandb: off}", ":1: log.wandb: YAML 1.1 reads off as False: write true or false"),
        ("train: {seed: 010}", ":1: train.seed: YAML 1.1 reads 010 as 8"),
        ("train: {seed: 0x10}", "reads 0x10 as 16"),
        ("train: {max_steps: 1_000}", "reads 1_000 as 1000: write a decimal number"),
        ("train: {blr: 1_0.5}", "reads 1_0.5 as 10.5"),
        ("train:\n  seed: 1\n  profile: 10:20", ":3: train.profile: YAML 1.1 reads 10:20 as 620"),
        ("log: {wandb_project: 2024-01-02}", "reads 2024-01-02 as a date"),
        ("log: {wandb_project: 2024-13-45}", "reads 2024-13-45 as a date"),
        ("data:\n  shards:\n  - a\n  - on", ":4: data.shards[1]: YAML 1.1 reads on as True"),
        ("train.seed: 010", ":1: train.seed: YAML 1.1 reads 010 as 8"),
        ("on: {}", ":1: on: YAML 1.1 reads on as True"),
        ("train: {max_steps: true}", "train.max_steps=True: this key takes no true or false"),
        ("train: {seed: '1_000'}", "train.seed='1_000': not a whole number"),
        (f"train: {{seed: {'1' * 5000}}}", "not a YAML recipe"),
        ("run: " + "[" * 1000, "nested too deeply"),
        ("? [a]\n: 1", "a key must be a word"),
        ("run: {dir: ''}", "run.dir=''"),
        ("run: {dir: a}\nrun.dir: b", "the key 'run.dir' stands twice"),
        ("run.dri: b", "unknown key 'run.dri'; did you mean 'run.dir'"),
    ],
)
def test_recipes_say_nothing_that_looks_otherwise(tmp_path: Path, text: str, says: str) -> None:
    recipe = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_config(recipe, [])
    assert str(caught.value).startswith(recipe)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_plain_words_and_numbers_of_recipes_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    text = (
        "train: {max_steps: 1e3, blr: 1e-3, min_lr: .5, weight_decay: 1.0e-2, seed: -3, stop_at: ~}\n"
        "log: {wandb: false, wandb_project: 'no'}\nrun: {dir: ~/runs/a}\ndata: {shards: [~/b, '010'], keys: null}\n"
    )
    config = load_config(write(tmp_path, text), [])
    train = config.train
    assert (train.max_steps, train.blr, train.min_lr, train.weight_decay, train.seed) == (1000, 1e-3, 0.5, 1e-2, -3)
    assert (train.stop_at, config.log.wandb, config.log.wandb_project) == (None, False, "no")
    assert (config.run.dir, config.data.shards, config.data.keys) == ("/home/me/runs/a", ("/home/me/b", "010"), None)


def test_an_alias_within_itself_ends(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.shards"):
        load_config(write(tmp_path, "data: {shards: &a [*a]}"), [])


def test_the_command_lines_mistakes_are_not_the_files(tmp_path: Path) -> None:
    recipe = write(tmp_path, "train: {max_steps: 100, blr: -1}")
    with pytest.raises(InputError, match=rf"^{recipe}: train\.blr=-1"):
        load_config(recipe, [])
    with pytest.raises(InputError, match=r"^command line: train\.blr=-2"):
        load_config(recipe, ["train.blr=-2"])
    with pytest.raises(InputError, match=rf"^command line, with {recipe}: train\.stop_at=200 lies behind"):
        load_config(write(tmp_path, "train: {max_steps: 100}"), ["train.stop_at=200"])
    with pytest.raises(InputError, match=rf"^{recipe}: train\.stop_at=200 lies behind"):
        load_config(write(tmp_path, "train: {max_steps: 100, stop_at: 200}"), ["train.seed=1"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("modle: {size: tiny}", "unknown section 'modle'; did you mean 'model'"),
        ("model: {sise: tiny}", "unknown key 'model.sise'; did you mean 'model.size'"),
        ("model: tiny", "section 'model' must be a mapping"),
        ("[1, 2]", "a recipe is a mapping of sections, this is list"),
        ("", "a recipe is a mapping of sections, this is NoneType"),
        ("model: {size: tiny, size: base}", "the key 'size' stands twice"),
        ("model: {size: !!python/object:os.system x}", "not a YAML recipe"),
        ("model: [", "not a YAML recipe"),
    ],
)
def test_bad_recipes_are_refused_with_their_path(tmp_path: Path, text: str, says: str) -> None:
    recipe = write(tmp_path, text)
    with pytest.raises(InputError, match=r"recipe\.yaml") as caught:
        load_config(recipe, [])
    assert says in str(caught.value)


def test_missing_recipes_name_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_config(str(tmp_path / "none.yaml"), [])
    with pytest.raises(InputError, match="did you mean 'debug'"):
        load_config("debg", [])


def test_keys_that_change_the_model_are_fixed_unless_they_say_otherwise() -> None:
    policy = resume_policy()
    fixed = [key for key, value in policy.items() if value is Resume.FIXED]
    free = {"model.attention", "model.init_from", "model.lean"}
    assert {key for key in policy if key.startswith("model.")} - free <= set(fixed)
    assert {"train.seed", "train.global_batch"} <= set(fixed)
    assert policy["train.max_steps"] is policy["train.blr"] is Resume.EXPLICIT
    assert policy["train.stop_at"] is policy["train.micro_batch"] is policy["data.workers"] is Resume.FREE


def test_the_paper_recipe_is_the_published_one() -> None:
    model, data = load_config("paper", []).model, load_config("paper", []).data
    assert (model.image_hw, model.patch_size, model.num_tokens, model.num_encoded_tokens) == ((56, 56), 8, 294, 49)
    assert (model.decoder_dim, model.decoder_depth, model.decoder_num_heads) == (128, 2, 8)
    assert model.outputs == ("rgb", "depth", "semseg", "ired", "sired", "ebands", "norm_rgb")
    assert (data.crop, data.flip, data.labels, model.paper_exact) == ("resize", "horizontal", "nearest", True)


def test_overrides_are_what_their_keys_are() -> None:
    assert parse_overrides(["train.seed=3", "log.wandb=false", "model.init_from=null", "run.dir=a=b"]) == {
        "train.seed": 3,
        "log.wandb": False,
        "model.init_from": None,
        "run.dir": "a=b",
    }


def test_a_range_of_steps_is_no_number_of_base_60(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "{}"), ["train.profile=10:20"])
    assert (config.train.profile, config.train.profiled) == ("10:20", (10, 20))
    assert Config().train.profiled is None
    # It comes back from the run's config.yaml as it was.
    stored = tmp_path / "stored.yaml"
    stored.write_text(yaml.safe_dump(flatten(config)), encoding="utf-8")
    assert build_config(yaml.safe_load(stored.read_text(encoding="utf-8")), "stored") == config
