"""Pure rules of content: templates, segments, WhatsApp."""
