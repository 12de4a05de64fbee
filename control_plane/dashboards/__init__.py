"""Who may look at the views that dashboards are drawn from: `vlaapi dashboards login`. The views are the migrations'."""
