"""Every setting once, with its meaning and unit. The other configs change some of them.

Use: `python main.py --config=configs/seg.py --config.optim.lr=5e-5`. Unknown names and wrong types are refused.
"""

from ml_collections import ConfigDict


# long because every setting stands here once, with its meaning
def get_config(policy: str = "tiny") -> ConfigDict:
    """All settings for `policy`: "tiny", a name in dtr1_jax/models/published_sizes.py, or "auto" (sizes from its
    files).
    """
    c = ConfigDict()
    c.seed = 0  # the seed from which every random key of the run is derived

    c.data = ConfigDict()
    # twinworld | coco | davis | jsonl | easy_vqa | foreign = a format of another trainer or tool (docs/data.md), or a
    # public benchmark (docs/benchmarks.md): refcoco | refcoco+ | refcocog | grefcoco | reasonseg | llm_seg | clevr |
    # vqav2 | gqa | coco_captions | nextqa | msrvtt | vrt | mevis | revos | ref_davis17 | ref_ytvos | reasonvos | tfds
    c.data.source = "twinworld"
    c.data.root = ""  # jsonl: the file; foreign: file or folder; others but twinworld: the folder with annotations
    c.data.name = ""  # tfds: the data set in data.root, such as "ref_coco/refcoco_unc" or with ":1.1.0" after it
    c.data.task = (
        "segmentation"  # segmentation | grounding | vqa | summary | unified (several tasks in turns, by data.mix)
    )
    # unified: the share of each task in training, evaluation and cold start, relative to the sum; 0 leaves a task out
    c.data.mix = ConfigDict()
    c.data.mix.segmentation = 1.0
    c.data.mix.grounding = 1.0
    c.data.mix.vqa = 1.0
    c.data.mix.summary = 1.0
    c.data.video = 0.0  # twinworld: share of each task's queries that are about videos, [0, 1]; sft: share of the steps
    # frames of a video: twinworld draws this many, other sources sample at most this many; 0 = 4 (twinworld) or 8
    c.data.frames = 0
    c.data.max_video_objects = 3  # twinworld: max_objects for videos, whose transcripts are about twice as long
    # twinworld: train | heldout | validation (to choose settings on); coco: part of the annotation file's name; jsonl:
    # the value of a line's "split"; benchmarks: their own names, where heldout is the usual one for validation
    c.data.train_split = "train"
    c.data.eval_split = "heldout"
    c.data.seed = 0  # seed of generated scenes and queries, and of the order of examples
    c.data.min_objects = 2  # twinworld: fewest objects in a scene
    c.data.max_objects = 7  # twinworld: most objects in a scene; other sources: most objects in an oracle or given twin
    c.data.image_size = 96  # twinworld: side of the drawn picture, pixels
    # policy.constructor=given: whether training shows the objects of a twin in a random order, another one each time,
    # so that a policy cannot learn to answer the first of them. An evaluation keeps the order of the data, and so do
    # the exercises of sft.practice
    c.data.shuffle_objects = False
    # coco: a JSON file {"label": ["noun phrase for its use", ...]} for queries; "" = COCO's phrases where the labels
    # are COCO's own, and the names of the labels in other data sets
    c.data.phrases = ""
    c.data.workers = 0  # processes that prepare batches; 0 = a thread of the main process
    # memory of the batches that wait, MiB; one batch is made ahead even if it takes more. With data.workers, each
    # process has at most two batches instead
    c.data.prefetch_mb = 512

    c.policy = ConfigDict()
    c.policy.name = policy  # tiny, a name in dtr1_jax/models/published_sizes.py, or auto = sizes from the files
    # a Hugging Face folder or hub id (org/name or org/name@revision), a .gguf file, or a policy.safetensors that
    # --mode=sft wrote (the file or its folder); "" = the weights that are shipped with the package
    c.policy.path = ""
    # a folder or hub id with a LoRA adapter in PEFT's form, such as RUN/adapter of --mode=sft, which is added to the
    # weights when they are read. A run trains on from there, and the sum is its reference policy; "" = none
    c.policy.adapter = ""
    c.policy.dtype = "float32"  # compute dtype: float32 | bfloat16
    # dtype of the frozen base under LoRA: float32 | bfloat16 | int8 (projections are rounded, with a scale for each
    # output; everything else is in policy.dtype; export writes the unrounded weights). Trained weights are float32
    c.policy.weights_dtype = "float32"
    # on = gradient checkpointing: an update keeps the input of each layer and computes the layer again in the backward
    # pass; off = it keeps all activations: more memory, less time; auto = off for tiny, on for other policies
    c.policy.remat = "auto"
    # whole sequences (prompts, scoring, pictures) attend by: einsum = scores pass through memory; flash = a kernel for
    # TPUs, whose memory is linear in the length (CPUs interpret it, which is slow and for tests); auto = flash on TPUs
    # for 128 tokens or more, einsum elsewhere
    c.policy.attention = "auto"
    # pixels of a picture. Our own policies resize every picture to a square of this area. Published policies shrink
    # larger pictures to at most this area and keep their shape. 0 = the default of the policy's processor
    c.policy.max_pixels = 96 * 96
    # the same for a whole video (Qwen3-VL) or for each of its frames (Qwen2.5-VL); with the policy auto, 0 = the
    # default of the named policies of its family
    c.policy.video_pixels = 0
    # --mode=infer samples this many frames per second of a video, at most max_frames; 0 = the processor's default.
    # Training and evaluation sample data.frames instead, or the frames that a JSON line names
    c.policy.fps = 0.0
    c.policy.max_frames = 0
    c.policy.prompt_tokens = 96  # tokens to which prompts are padded; a longer prompt is an error
    # brief: the query after "point: " or, where the answer is text, "in words: " (for a policy that was cold-started);
    # full: the prompt explains the format; example: the query after worked examples (for a small policy without a cold
    # start; needs constructor "given" or "specialists")
    c.policy.prompt = "brief"
    # who fills the twin: policy; given = the example brings it and the prompt shows it; specialists = the policy asks
    # for it in <construct>, vision models look, and the host puts the twin into the completion (needs prompt full or
    # example)
    c.policy.constructor = "policy"
    # ids of objects in the text: number (1, 2; the tiny policy was trained with them) or named ("mug_1", "cat_2"): a
    # pretrained language model copies a name more reliably than it looks up a number
    c.policy.ids = "number" if policy == "tiny" else "named"
    # constructors given and specialists: whether the twin shows relations between objects ("on", "in front of"), which
    # take tokens; the policy that is asked should see what it was trained with
    c.policy.relations = True

    c.specialists = ConfigDict()  # vision models that fill the twin; paths as dtr1_jax.specialists.load takes them
    # finds the objects: a folder, file or hub id of SSDLite, OWLv2 or an ONNX detector; "" = none, so nothing is found
    c.specialists.detector = ""
    c.specialists.threshold = 0.0  # score from which the detector's objects count; 0 = the detector's own default
    # --mode=perceive: what to look for, with commas between, or a file with a phrase in each line; "" = all classes of
    # the detector. A detector without classes of its own needs phrases
    c.specialists.phrases = ""
    c.specialists.max_objects = 40  # most objects of a scene; those with the highest scores are kept
    c.specialists.merge_iou = 0.6  # two objects of one label whose masks overlap by this IoU are one object
    # box -> mask: grabcut | box (the filled box; "" is the same) | the path of SAM, SAM 2 or MobileSAM, also sam:PATH
    c.specialists.segmenter = "grabcut"
    c.specialists.depth = ""  # the path of Depth Anything or an ONNX depth model; "" = no depth
    # two objects share a depth rank if their depths differ by at most this share of the picture's range of depths
    c.specialists.depth_tie = 0.02
    # finds the objects of a video's frame in the others: memory = the video memory of the segmenter, which must be
    # SAM 2; iou = links what the detector saw in each frame; auto = memory where there is one, else iou; none
    c.specialists.tracker = "auto"
    c.specialists.gap = 4  # frames for which a tracked object may be out of sight
    c.specialists.colour_share = 0.3  # share of an object's pixels from which a colour is named
    c.specialists.dtype = "float32"  # in which the models compute: float32 | bfloat16
    # pixels above which a picture is shrunk before the specialists look; its masks have that size then
    c.specialists.max_pixels = 1 << 20
    c.specialists.batch = 8  # pictures that are looked at together
    c.specialists.cache_mb = 256  # memory for what was found in pictures before, MiB
    c.specialists.workers = 2  # processes of GrabCut
    c.specialists.deadline = 2.0  # seconds that GrabCut has for one box
    # --mode=perceive --images: queries that are generated about each picture from what was perceived; their targets are
    # pseudo-labels
    c.specialists.pseudo_queries = 0
    c.specialists.examples = 0  # --mode=perceive on a data set: most examples of each split; 0 = all

    c.lora = ConfigDict()
    c.lora.rank = 0  # 0 = train all weights
    c.lora.alpha = 32.0  # the output of an adapter is multiplied by alpha / rank
    c.lora.rslora = False  # multiply by alpha / sqrt(rank) instead, which suits large ranks (arXiv 2312.03732)
    # share of the adapters' input values that an update drops; 0 = off. Sampling, the reference policy, evaluation and
    # export drop nothing. So GRPO's ratio differs from 1 already in the first update after a rollout: train/mismatch
    # then shows the dropout too, and clipping takes tokens with a large ratio out of the loss
    c.lora.dropout = 0.0
    c.lora.targets = "decoder/.*"  # regular expression that the paths of projections must match

    c.rollout = ConfigDict()
    c.rollout.queries = 16  # B, queries per step
    # parts into which a step's queries are cut for sampling: the device samples one part while the host scores another
    # or specialists look at its pictures. It pays where the host takes long; each part reads all weights again
    c.rollout.parts = 1
    # 1 = one step off-policy: the completions of the next step are sampled with the weights from before this update, so
    # the host scores them, and specialists look, while the device updates. Needs grpo.importance, which corrects for
    # the older weights, and a copy of the trained weights on the devices; 0 = off
    c.rollout.ahead = 0
    c.rollout.group = 8  # G, completions per query
    c.rollout.new_tokens = 160  # S, most tokens of a completion that the policy writes
    c.rollout.temperature = 1.0  # of the softmax
    c.rollout.top_k = 0  # 0 = off
    c.rollout.top_p = 1.0  # 1 = off
    # constructor specialists: the tokens of new_tokens in which a request must end, and most tokens of the twin that is
    # put in; a longer twin loses the objects that matter least to query and request, and says how many in "more"
    c.rollout.construct_tokens = 64
    c.rollout.twin_tokens = 160

    c.reward = ConfigDict()
    c.reward.weights = reward_weights()
    # box -> mask: grabcut (on the host) | box (the filled box) | sam:PATH, a learned model on this process's devices.
    # PATH: folder, hub id or file of SAM, SAM 2 or MobileSAM, as in sam:facebook/sam-vit-base and sam:mobile_sam.pt
    c.reward.segmenter = "grabcut"
    c.reward.mask_size = 96  # cells a side of the grid on which the pixels of masks are counted: memory, not the score
    c.reward.tolerance = 0.0  # a numeric answer may be off by this share of the right number
    c.reward.length_free = 128  # column length: completions of up to this many tokens score 1; the score falls to 0
    c.reward.length_most = 160  # at this many tokens
    # column cider: file with document frequencies, made by experiments/idf.py; "" = all words weigh the same
    c.reward.idf = ""
    c.reward.sentences = ""  # column similarity: folder of a BERT that embeds sentences, such as MiniLM
    c.reward.judge = ConfigDict()  # column judge: a language model behind an OpenAI-compatible endpoint
    c.reward.judge.url = ""  # such as http://localhost:8000/v1
    c.reward.judge.model = ""  # the model's name on the server
    c.reward.judge.key_env = ""  # environment variable that holds the key; "" = no key is sent
    c.reward.judge.cache = ""  # folder that keeps grades for later runs; "" = none
    c.reward.judge.deadline = 20.0  # seconds for one question
    c.reward.judge.budget = 1000  # most questions that each process sends in a run
    c.reward.judge.workers = 4  # questions sent at once
    c.reward.deadline = 1.5  # seconds that the host work of one sample may take
    c.reward.workers = 2  # processes for host work

    c.grpo = ConfigDict()
    c.grpo.variant = "dapo"  # grpo | dr_grpo | dapo | gspo | cispo
    # the standard deviation that divides the advantage: group | batch | none | ema = a moving average over the rewards
    # of the query's task, for training on tasks whose rewards differ in spread (EMA-GRPO, arXiv 2512.03043)
    c.grpo.advantage = "group"
    c.grpo.ema_decay = 0.99  # decay of that average: the rewards of a step weigh 1 - ema_decay
    # weight of the KL to the reference policy (k3 estimator); without it the tiny policy's twins lose objects
    c.grpo.beta = 0.1
    # factor on beta at the tokens of a twin that the policy writes: above 1, twins stay closer to the reference than
    # thoughts and answers
    c.grpo.hold_twin = 1.0
    c.grpo.clip_low = 0.2  # the ratio is clipped to [1 - clip_low, 1 + clip_high]
    c.grpo.clip_high = 0.28
    # bound dual_clip * |advantage| of the loss where the advantage is negative; 0 = off, else above 1 + clip_high
    c.grpo.dual_clip = 0.0
    # weights that correct for the difference between the log-probabilities of sampler and scorer (train/mismatch; up to
    # 0.03 in bfloat16): off | token_truncate | token_mask | sequence_truncate | sequence_mask. token, sequence: one
    # weight for each token, or for each completion; truncate clips a weight to [importance_low, importance_high], mask
    # sets a weight outside to 0. Costs one more pass over the completions of a step
    c.grpo.importance = "off"
    c.grpo.importance_low = 0.0  # 0 = no lower bound
    c.grpo.importance_high = 3.0
    c.grpo.mask_truncated = True  # completions that reached new_tokens without ending are left out of the loss
    c.grpo.epochs = 1  # passes over each rollout
    c.grpo.minibatches = 1  # optimizer steps per pass
    c.grpo.micro_queries = 1  # queries per gradient accumulation step and device; 0 = all at once
    c.grpo.micro_group = 4  # most completions of a query at a time; they share one prefill; 0 = all
    c.grpo.resample = 0  # dynamic sampling: most further batches that refill groups without spread; 0 = off

    c.optim = ConfigDict()
    c.optim.lr = 2e-4  # peak learning rate
    c.optim.warmup = 5  # steps of linear warm-up; like all steps of training, each has epochs * minibatches updates
    c.optim.schedule = "constant"  # after the warm-up: constant | cosine | linear (to 0, see decay_steps)
    # cosine, linear: steps from the start to a rate of 0; 0 = train.steps. Set it to the final length if you may raise
    # train.steps later: otherwise the rate jumps when the run goes on, which a warning says
    c.optim.decay_steps = 0
    c.optim.b1 = 0.9
    c.optim.b2 = 0.99
    c.optim.eps = 1e-8
    c.optim.weight_decay = 0.0
    c.optim.clip = 1.0  # the gradient is clipped to this global norm; 0 = off

    c.sft = ConfigDict()
    c.sft.steps = 4000
    c.sft.batch = 32  # examples per step
    # learning rate of Muon for matrices; Adam for embeddings, norms and biases has a tenth. Adapters (lora.rank above
    # 0) are trained by Adam at this rate
    c.sft.lr = 1e-2
    c.sft.warmup = 100  # steps
    c.sft.direct = 0.6  # share of the demonstrations with an empty thought; GRPO finds out whether thinking pays
    c.sft.reasoning = 3.0  # weight of a token of the thought or the answer; a token of the twin weighs 1
    c.sft.practice = 8  # twins per step that are given as text, to practise reasoning (twinworld); 0 = off
    c.sft.practice_queries = 4  # queries about each of these twins; all answers have a thought
    c.sft.practice_drills = 4  # thoughts about each of these twins that only look objects up
    c.sft.dense = 1.0  # weight of the dense loss: each vision token names the object it shows (twinworld)
    c.sft.tower = 0.37  # share of the steps at the start that train the vision tower alone
    c.sft.log_every = 20  # steps
    c.sft.curriculum = 0.6  # over this share of the steps scenes grow from min_objects to max_objects

    c.train = ConfigDict()
    c.train.steps = 60  # GRPO steps
    c.train.eval_every = 0  # steps between evaluations; 0 = only before the first and after the last step
    c.train.eval_examples = 128  # held-out queries per evaluation
    c.train.eval_batch = 32  # held-out queries at once
    c.train.eval_temperature = 0.0  # 0 = greedy
    c.train.log_every = 1  # steps
    c.train.samples_every = 20  # steps between tables of sampled completions; 0 = never
    c.train.gallery = 24  # held-out queries with pictures in the report
    c.train.profile = 0  # steps, from the second on, of which a trace is written into WORKDIR/profile

    c.checkpoint = ConfigDict()
    c.checkpoint.every = 20  # steps between checkpoints; 0 = only at the end and when stopped by a signal
    c.checkpoint.keep = 2  # number of newest checkpoints to keep, besides the best

    # Sizes of the device axes: -1 = the devices that the others leave; 0, for fsdp and tensor, = as little as the
    # memory of the devices allows if data is -1, otherwise 1.
    c.mesh = ConfigDict()
    c.mesh.data = -1  # copies of the weights, each with its share of the queries
    c.mesh.fsdp = 0  # cuts the queries too, and the weights
    c.mesh.tensor = 0  # cuts heads, hidden units, the vocabulary and, between the products of a layer, the tokens
    # Devices that hold together one copy of the weights while completions are sampled; 0 = by memory, and on TPUs by
    # the time of a token; -1 = no copy, so that weights cut over fsdp are gathered for each token.
    c.mesh.rollout = 0
    if policy != "tiny":
        published(c)
    return c


def reward_weights() -> ConfigDict:
    """Weights of the reward columns: for each task, reward = sum of weight * column, with columns in [0, 1].

    A weight of 0 leaves the column out. All weights are our own choice. The twin's truth weighs about as much as the
    answer, so that no answer pays for an untrue twin; experiments/hacking.py shows what false twins and answers earn.
    The facts of a summary weigh more, so that they outweigh a true twin beside a false summary.
    """
    w = ConfigDict()
    for task in ("segmentation", "grounding", "vqa", "summary"):
        w[task] = ConfigDict()
        w[task].structure = 0.2  # is the transcript well-formed
    w.segmentation.mask_iou = 1.0  # IoU of answer and target masks; for a video the mean over its frames
    w.segmentation.box_iou = 0.5  # matched IoU of answer and target boxes; for a video of their tracks
    w.grounding.mask_iou = 0.0
    w.grounding.box_iou = 1.0
    w.vqa.answer = 1.0  # is the answer right: a number, a choice, yes or no, or words
    w.summary.facts = 3.0  # F1 of the facts that the summary states: objects, colours, places, actions, counts
    w.summary.rouge_l = 0.5  # longest common subsequence of words; the main metric of summaries
    for task in ("segmentation", "grounding"):
        w[task].points = 0.0  # centres of the answer's boxes inside target boxes / the larger number of boxes
    w.vqa.rouge_l = 0.0
    for task in ("vqa", "summary"):
        w[task].bleu = 0.0  # runs of four words
        w[task].cider = 0.0  # n-grams, where rare words count more, see reward.idf
    for task in ("segmentation", "grounding", "vqa"):
        # the answer equals the one that the query's program gives on the completion's own twin; generated queries only
        w[task].follows = 0.0
    for task in ("vqa", "summary"):
        w[task].token_f1 = 0.0  # words shared with a reference
        w[task].similarity = 0.0  # cosine of sentence embeddings with a reference, see reward.sentences
        w[task].judge = 0.0  # grade by a language model, see reward.judge
    for task in w:
        # Is the twin true: its objects are matched with the annotated ones. These columns are ours, not the paper's.
        w[task].twin_iou = 0.3  # matched IoU of the boxes, or tracks; keeps the twin complete
        w[task].twin_labels = 0.25  # right labels, or synonyms
        w[task].twin_attributes = 0.15  # F1 of the attributes
        w[task].twin_depth = 0.1  # which of two objects is nearer
        w[task].twin_relations = 0.1  # share of the stated relations that hold; 1 without any relation
        w[task].twin_tracks = 0.1  # videos: when objects are visible, and their velocity
        # accuracy of a second answer from the completion's own twin, without the picture; costs one more rollout a step
        w[task].blind = 0.0
        w[task].length = 0.0  # 1 for a short completion, see reward.length_free
        w[task].repetition = 0.0  # share of the four-word sequences in thought and answer that are different
        w[task].economy = 0.05  # constructor specialists only: the share of the request's work that is not needless
    return w


def published(c: ConfigDict) -> None:
    """Settings of published policies: they are large, know nothing of the format, and are trained by LoRA."""
    c.policy.dtype = c.policy.weights_dtype = "bfloat16"
    c.policy.max_pixels = 512 * 28**2  # 512 vision tokens of Qwen2.5-VL, 392 of Qwen3-VL
    c.policy.max_frames = 8  # of a video: at most 512 vision tokens of Qwen2.5-VL, 196 of Qwen3-VL
    if c.policy.name != "auto":  # Only the files of "auto" say its family, see policies/pretrained.video_pixels.
        c.policy.video_pixels = (512 if "qwen3" in c.policy.name else 128) * 28**2
    c.policy.prompt_tokens = 1024
    c.policy.prompt = "full"
    if "_vl_" not in c.policy.name and c.policy.name != "auto":
        c.policy.constructor = "given"  # These policies see no pictures.
    c.lora.rank = 16
    c.grpo.beta = 0.0
    c.rollout.new_tokens = 512
    c.rollout.construct_tokens, c.rollout.twin_tokens = 96, 384
    c.optim.lr = 1e-5
    c.sft.steps, c.sft.batch, c.sft.lr, c.sft.warmup = 300, 16, 2e-4, 10
    c.sft.direct = 0.0  # all demonstrations think: the policy has to learn the form of a thought
