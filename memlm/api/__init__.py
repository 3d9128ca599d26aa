"""The public interface to models: one by its name, texts -> memories -> texts, text that goes on from memories.

>>> m = memlm.load("runs/demo/slots")  # doctest: +SKIP
>>> memories = m.encode(["a text", "another one, of any length"])  # doctest: +SKIP
>>> m.decode(memories)  # doctest: +SKIP
>>> reader = memlm.load("runs/demo/memory")  # doctest: +SKIP
>>> reader.generate("It was", memories=reader.encode("a text"), max_new_tokens=50)  # doctest: +SKIP
>>> print(memlm.measure(any_function_from_texts_to_vectors, data="data", chunk_tokens=16))  # doctest: +SKIP

In reading order: `face` (what every model can be asked), `own` (models of ours), `others` (models of others), `load`
(a name -> one of them).
"""
