"""Suites: a model generates for the tasks of a paper, and the samples are measured by its metrics.

tasks.py      what a task is: prompts, outputs, a data set, metrics
paper.py      the tasks of the CoDi paper, and the numbers that it reports
datasets.py   COCO, AudioCaps, MSR-VTT and UCF-101 in the layouts they are distributed in
prepare.py    writes real samples as the model reads them: prompts and references, also for other judges
generate.py   writes generated samples, in batches; a stopped run goes on
run.py        all of it: suite.json, metrics.json and a table
page.py       report.html

    OUT/suite.json                     what the samples depend on
    OUT/real/coco/image/KEY.png        real samples
    OUT/samples/TASK/image/KEY.png     generated ones; TASK.independent has each output generated alone
    OUT/measured/TASK/                 features and metrics of each task
    OUT/metrics.json, OUT/report.html  all tables
"""
