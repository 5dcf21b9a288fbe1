"""What a vLLM server says, of a tiny checkpoint in this process: the parts of its interface that `remem_vllm` asks for.

The real one is asked in tests/engines/test_vllm.py; this one shows in every run that requests and answers fit.
"""

import base64
import io
import json
import re

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from remem_tasks.engine.spelling import Spelling


class VLLMDouble:
    """`answer` for `support.served.server`.

    Args:
        folder: the checkpoint.
    """

    def __init__(self, folder):
        self.folder = str(folder)
        self.model = AutoModelForImageTextToText.from_pretrained(folder).eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        self.spelling = Spelling(self.processor.tokenizer)

    def __call__(self, body, before):
        if body == "/v1/models":
            said = {"data": [{"id": "m", "owned_by": "vllm", "root": self.folder, "max_model_len": 1024}]}
        else:
            said = self._completion(body)
        return 200, {}, json.dumps(said).encode()

    def _inputs(self, body):
        messages = [{**one, "content": [_part(part) for part in _parts(one)]} for one in body["messages"]]
        begun = bool(body.get("continue_final_message"))
        return self.processor.apply_chat_template(
            messages,
            add_generation_prompt=not begun,
            continue_final_message=begun,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )

    @torch.inference_mode()
    def _completion(self, body):
        inputs = self._inputs(body)
        ids = inputs["input_ids"][0].tolist()
        said = {"prompt_token_ids": ids}
        if body.get("prompt_logprobs"):
            logp = self.model(**inputs).logits[0].float().log_softmax(-1)
            said["prompt_logprobs"] = [None, *(_told(one, id, body) for one, id in zip(logp, ids[1:]))]
        torch.manual_seed(body.get("seed", 0))
        replies = [self._reply(inputs, body) for _ in range(body.get("n", 1))]
        choices = [
            {"message": {"content": self.processor.decode(one)}, "finish_reason": "length", "token_ids": one}
            for one in replies
        ]
        usage = {"prompt_tokens": len(ids), "completion_tokens": sum(map(len, replies))}
        return {**said, "choices": choices, "usage": usage}

    def _going_on(self, said, regex):
        """The tokens behind which a text can still come to begin as a regex, some text and then anything, says."""
        assert regex.endswith(r"[\s\S]*")
        begin = re.sub(r"\\(.)", r"\1", regex.removesuffix(r"[\s\S]*")).encode()
        before = b"".join(self.spelling.of(said))
        texts = [before + one for one in self.spelling.of(range(len(self.processor.tokenizer)))]
        return [
            id for id, text in enumerate(texts)
            if len(text) > len(before) and (text.startswith(begin) or begin.startswith(text))
        ]  # fmt: skip

    def _reply(self, inputs, body):
        found, inputs = [], dict(inputs)
        for _ in range(body["max_tokens"]):
            logits = self.model(**inputs).logits[0, -1].float()
            for id, bias in body.get("logit_bias", {}).items():
                logits[int(id)] += bias
            if (allowed := body.get("allowed_token_ids")) is not None:
                logits = _only(logits, allowed)
            if (wanted := body.get("structured_outputs")) is not None:
                logits = _only(logits, self._going_on(found, wanted["regex"]))
            drawn = torch.multinomial(logits.softmax(-1), 1) if body["temperature"] else logits.argmax()
            found.append(int(drawn))
            if found[-1] == self.processor.tokenizer.eos_token_id:
                break
            inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[found[-1]]])], 1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return found


def _only(logits, allowed):
    kept = torch.full_like(logits, -torch.inf)
    kept[allowed] = logits[allowed]
    return kept


def _parts(turn):
    content = turn["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _part(part):
    if part["type"] == "text":
        return part
    raw = base64.b64decode(part["image_url"]["url"].partition(",")[2])
    return {"type": "image", "image": Image.open(io.BytesIO(raw))}


def _told(logp, id, body):
    """The likeliest tokens of a place and the one that stands there, as vLLM writes them."""
    count = len(logp) if body["prompt_logprobs"] == -1 else body["prompt_logprobs"]
    ids = {*logp.topk(min(count, len(logp))).indices.tolist(), id}
    return {str(one): {"logprob": float(logp[one])} for one in ids}
