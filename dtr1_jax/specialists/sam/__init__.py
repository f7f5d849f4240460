"""SAM: masks from boxes, points and masks (Kirillov et al., "Segment Anything", arXiv 2304.02643).

Two picture encoders share one prompt encoder and mask decoder: the ViT of SAM (`facebook/sam-vit-base`, `-large`,
`-huge`), and the TinyViT of MobileSAM (Zhang et al., "Faster Segment Anything", arXiv 2306.14289; `mobile_sam.pt`).
"""
