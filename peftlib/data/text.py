"""TEMPORARY"""
def as_text(task, texts): return f"{task.name} " + " ".join(f"{c}: {t}" for c,t in zip(task.texts, texts))
def answer(task, label): return f"{round(float(label)*5)/5:.1f}" if task.kind=="score" else task.labels[int(label)]
def read_answer(task, text):
    t=text.strip()
    if task.kind=="score":
        try: return float(t)
        except ValueError: return None
    return task.labels.index(t) if t in task.labels else None
