"""Every setting once, with its meaning and unit. The other configs say only what differs.

Use: `python main.py --config=configs/seg.py --config.optim.lr=5e-5`. Unknown names and wrong types are refused.
"""

from ml_collections import ConfigDict


def get_config(policy: str = "tiny") -> ConfigDict:
    """All settings for `policy`: tiny, a name in dtr1_jax.models.published.CONFIGS, or auto (the sizes of its
    files)."""
    c = ConfigDict()
    c.seed = 0  # root of all randomness; everything else is folded in from it

    c.data = ConfigDict()
    c.data.source = "twinworld"  # twinworld | coco | davis | jsonl | easy_vqa
    c.data.root = ""  # coco, davis, easy_vqa: folder with annotations and images; jsonl: the file
    c.data.task = "segmentation"  # segmentation | grounding | vqa | summary | unified (those of data.mix, interleaved)
    # unified: weights of the tasks' shares, in training, evaluation and cold start; a weight of 0 leaves the task out
    c.data.mix = ConfigDict()
    c.data.mix.segmentation = 1.0
    c.data.mix.grounding = 1.0
    c.data.mix.vqa = 1.0
    c.data.mix.summary = 1.0
    c.data.video = 0.0  # twinworld: share of the queries that are about videos, [0, 1], of each task; sft: of steps
    # frames of a video: drawn by twinworld, shown at most of davis and jsonl; 0 = as is usual for the source (4; 8)
    c.data.frames = 0
    c.data.max_video_objects = 3  # twinworld: as max_objects, of a video; its transcripts are about twice as long
    c.data.train_split = (
        "train"  # twinworld: train | heldout; coco: part of the annotation file's name; jsonl: see docs/data.md
    )
    c.data.eval_split = "heldout"
    c.data.seed = 0  # seed of generated scenes and queries, and of the shuffle
    c.data.min_objects = 2  # twinworld: objects in a scene, at least
    c.data.max_objects = 7  # twinworld: objects in a scene, at most; other sources: objects in an oracle twin
    c.data.image_size = 96  # twinworld: side of the drawn picture, pixels
    c.data.workers = 0  # processes that prepare batches; 0 = a thread of this process

    c.policy = ConfigDict()
    c.policy.name = policy  # sizes and defaults, see dtr1_jax/models/published.py; auto = the sizes of the files
    # a Hugging Face folder or hub id (org/name or org/name@revision), a .gguf file, or a file of ours (.safetensors, or
    # the folder of policy.safetensors); "" = what is shipped with the policy
    c.policy.path = ""
    c.policy.dtype = "float32"  # compute dtype: float32 | bfloat16
    # of the frozen base under LoRA: float32 | bfloat16 | int8 (projections are rounded, with a scale for each output;
    # all else is in policy.dtype; export writes the weights as they were). Trained weights are always float32
    c.policy.weights_dtype = "float32"
    # on = an update keeps where each layer starts and computes the layer again on the way back (gradient
    # checkpointing); off = it keeps all that layers compute: more memory, less time; auto = off for tiny, else on
    c.policy.remat = "auto"
    # pixels of a picture: of the square that every one becomes for a policy of ours; of those of others the most, to
    # which it is shrunk, keeping its shape; 0 = as is usual for it
    c.policy.max_pixels = 96 * 96
    # the same for a video (Qwen3-VL) or each of its frames (Qwen2.5-VL); with auto, 0 = as a named policy of the family
    # of its files has it
    c.policy.video_pixels = 0
    # frames of a video a second, and at most, that --mode=infer takes; 0 = as the processor says. Of the videos of data
    # data.frames are taken, or those that a line names
    c.policy.fps = 0.0
    c.policy.max_frames = 0
    c.policy.prompt_tokens = 96  # length to which prompts are padded, tokens; a longer prompt is an error
    # brief: the query, after "point: ", or "in words: " where the answer is text (a policy that was cold-started);
    # full: explains the format; example: the query, after worked examples (a small policy that was not cold-started;
    # needs constructor given)
    c.policy.prompt = "brief"
    c.policy.constructor = "policy"  # who fills the twin: policy; given = the example brings it, the prompt shows it

    c.lora = ConfigDict()
    c.lora.rank = 0  # 0 = train all weights
    c.lora.alpha = 32.0  # the adapters' product is added times alpha / rank
    c.lora.rslora = False  # times alpha / sqrt(rank) instead, which suits large ranks (arXiv 2312.03732)
    # share of the values going into the adapters that an update drops; 0 = off. Sampling, the KL's reference,
    # evaluation and export drop nothing. So GRPO's ratio is not 1 in the first update after a rollout either:
    # train/mismatch then shows the dropout too, and where it is large, clipping takes tokens out of the loss
    c.lora.dropout = 0.0
    c.lora.targets = "decoder/.*"  # regular expression over projection paths

    c.rollout = ConfigDict()
    c.rollout.queries = 16  # B, queries per step
    c.rollout.group = 8  # G, completions per query
    c.rollout.new_tokens = 160  # S, completion tokens at most
    c.rollout.temperature = 1.0  # of the softmax
    c.rollout.top_k = 0  # 0 = off
    c.rollout.top_p = 1.0  # 1 = off

    c.reward = ConfigDict()
    c.reward.weights = reward_weights()
    c.reward.segmenter = "grabcut"  # box -> mask: grabcut | box
    c.reward.mask_size = 96  # masks are compared on a grid of at most so many pixels a side
    c.reward.tolerance = 0.0  # of a number as an answer, as a share of the right one
    c.reward.length_free = 128  # column length: completions of up to so many tokens score 1, falling to 0 at
    c.reward.length_most = 160  # so many
    # column cider: file with document frequencies, as experiments/idf.py makes it; "" = all words weigh the same
    c.reward.idf = ""
    c.reward.sentences = ""  # column similarity: folder of a MiniLM or another BERT that embeds sentences
    c.reward.judge = ConfigDict()  # column judge: a language model behind an OpenAI-compatible endpoint
    c.reward.judge.url = ""  # such as http://localhost:8000/v1
    c.reward.judge.model = ""  # name that the server knows
    c.reward.judge.key_env = ""  # environment variable with the key; "" = none is sent
    c.reward.judge.cache = ""  # folder in which grades are kept; "" = they are not
    c.reward.judge.deadline = 20.0  # seconds for one question
    c.reward.judge.budget = 1000  # questions that each process may send from its start on
    c.reward.judge.workers = 4  # questions under way at once
    c.reward.deadline = 1.5  # seconds that one sample's host work may take
    c.reward.workers = 2  # processes for host work

    c.grpo = ConfigDict()
    c.grpo.variant = "dapo"  # grpo | dr_grpo | dapo | gspo | cispo
    # whose deviation divides the advantage: group | batch | none | ema = the moving average over all rewards of the
    # query's task, for training on several tasks whose rewards are spread unlike (EMA-GRPO, arXiv 2512.03043)
    c.grpo.advantage = "group"
    c.grpo.ema_decay = 0.99  # of that average: a step's rewards weigh 1 - ema_decay
    # weight of the KL to the reference policy (k3 estimator); without it the tiny policy describes less and less
    c.grpo.beta = 0.1
    # factor on beta at the tokens of the twin: what is seen stays as it was, thoughts and answers are free to change
    c.grpo.hold_twin = 1.0
    c.grpo.clip_low = 0.2  # ratio is clipped to [1 - clip_low, 1 + clip_high]
    c.grpo.clip_high = 0.28
    c.grpo.dual_clip = 0.0  # bound of the loss where the advantage is negative; 0 = off, else > 1
    c.grpo.mask_truncated = True  # completions that were cut off carry no loss
    c.grpo.epochs = 1  # passes over each rollout
    c.grpo.minibatches = 1  # optimizer steps per pass
    c.grpo.micro_queries = 1  # queries per gradient accumulation step; 0 = all at once
    c.grpo.micro_group = 4  # completions of each at a time, at most; they share one pass over the prompt; 0 = all
    c.grpo.resample = 0  # rounds of refilling groups without spread (dynamic sampling); 0 = off

    c.optim = ConfigDict()
    c.optim.lr = 2e-4  # peak learning rate
    c.optim.warmup = 5  # steps of linear warm-up
    c.optim.schedule = "constant"  # after it: constant | cosine | linear (to 0 after the last step)
    c.optim.b1 = 0.9
    c.optim.b2 = 0.99
    c.optim.eps = 1e-8
    c.optim.weight_decay = 0.0
    c.optim.clip = 1.0  # global norm of the gradient

    c.sft = ConfigDict()
    c.sft.steps = 4000
    c.sft.batch = 32  # examples per step
    c.sft.lr = 1e-2  # of Muon on the matrices; embeddings, norms and biases have Adam at a tenth of it
    c.sft.warmup = 100  # steps
    c.sft.direct = 0.6  # share of the demonstrations that answer with an empty thought; what pays is left to GRPO
    c.sft.reasoning = 3.0  # weight of a token of the thought or the answer, where one of the twin weighs 1
    c.sft.practice = 8  # twins per step that are given in words, to practise reasoning over; 0 = off
    c.sft.practice_queries = 4  # queries about each of them; all are answered with a thought
    c.sft.practice_drills = 4  # thoughts about each of them that only look things up
    c.sft.dense = 1.0  # weight of the loss that asks each vision token what it sees (twinworld only)
    c.sft.tower = 0.37  # share of the steps, at the start, that train the vision tower alone
    c.sft.log_every = 20  # steps
    c.sft.curriculum = 0.6  # share of the steps over which scenes grow from min_objects to max_objects

    c.train = ConfigDict()
    c.train.steps = 60  # GRPO steps
    c.train.eval_every = 0  # steps; 0 = before the first and after the last only
    c.train.eval_examples = 128  # held-out queries per evaluation
    c.train.eval_batch = 32  # queries at once
    c.train.eval_temperature = 0.0  # 0 = greedy
    c.train.log_every = 1  # steps
    c.train.samples_every = 20  # steps between tables of sample completions; 0 = never
    c.train.gallery = 24  # held-out queries in the report

    c.checkpoint = ConfigDict()
    c.checkpoint.every = 20  # steps; 0 = only at the end and when asked to stop
    c.checkpoint.keep = 2  # newest ones kept, besides the best

    c.mesh = ConfigDict()  # device axes; -1 = what is left
    c.mesh.data = -1  # replicas of the weights, each with its share of the queries
    c.mesh.fsdp = 1  # as data, and the weights are cut over it
    c.mesh.tensor = 1  # heads and hidden units are cut over it
    if policy != "tiny":
        published(c)
    return c


def reward_weights() -> ConfigDict:
    """Of each task: reward = sum of weight * column, columns in [0, 1]; a weight of 0 leaves the column out.

    All weights are our own choice. What a task is scored by weighs 1; half as much, or little, what helps on the way.
    """
    w = ConfigDict()
    for task in ("segmentation", "grounding", "vqa", "summary"):
        w[task] = ConfigDict()
        w[task].structure = 0.2  # is the transcript sound
    w.segmentation.mask_iou = 1.0  # IoU of the answer's masks with the target; of a video the mean over its frames
    w.segmentation.box_iou = 0.5  # matched IoU of the answer's boxes, of a video its tracks, with the target's
    w.grounding.mask_iou = 0.0
    w.grounding.box_iou = 1.0
    w.vqa.answer = 1.0  # is the answer right: a number, a choice, yes or no, or words
    w.summary.rouge_l = 1.0  # longest common subsequence of words; the summary's own figure
    w.summary.bleu = 0.25  # runs of four words
    w.summary.cider = 0.25  # rare words count more, see reward.idf
    for task in ("segmentation", "grounding"):
        w[task].points = 0.0  # centres of the answer's boxes that lie in wanted boxes
    for name in ("rouge_l", "bleu", "cider"):
        w.vqa[name] = 0.0
    for task in ("vqa", "summary"):
        w[task].token_f1 = 0.0  # words shared with a reference
        w[task].similarity = 0.0  # cosine with a reference's embedding, see reward.sentences
        w[task].judge = 0.0  # a language model's grade, see reward.judge
    for task in w:
        # matched IoU of the twin's boxes with all annotated objects; keeps the twin whole (ours, not the paper's)
        w[task].twin_iou = 0.0
        w[task].length = 0.0  # is the completion short, see reward.length_free
        w[task].repetition = 0.0  # share of the runs of four words in thought and answer that come once
    return w


def published(c: ConfigDict) -> None:
    """What differs for the policies of others: they are large, were never cold-started, and are trained by LoRA."""
    c.policy.dtype = c.policy.weights_dtype = "bfloat16"
    c.policy.max_pixels = 512 * 28**2  # 512 vision tokens of Qwen2.5-VL, 392 of Qwen3-VL
    c.policy.max_frames = 8  # of a video: at most 512 vision tokens of Qwen2.5-VL, 196 of Qwen3-VL
    if c.policy.name != "auto":  # of which only its files say the family, see policies/pretrained.py
        c.policy.video_pixels = (512 if "qwen3" in c.policy.name else 128) * 28**2
    c.policy.prompt_tokens = 1024
    c.policy.prompt = "full"
    if "_vl_" not in c.policy.name and c.policy.name != "auto":
        c.policy.constructor = "given"  # these see no pictures
    c.lora.rank = 16
    c.grpo.beta = 0.0
    c.rollout.new_tokens = 512
    c.optim.lr = 1e-5
