"""The playground: a page on which people generate with one model (`codi-jax serve`).

`request` what is asked · `uploads` files of clients · `queue` whose turn it is · `work` the pipeline, with previews ·
`results` what is kept for a while · `page` the page, which alone imports gradio · `server` the page behind its bounds
"""
