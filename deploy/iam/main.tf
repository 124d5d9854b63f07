# The role of targetgate for EKS Pod Identity.

variable "cluster_name" {
  type = string
}

resource "aws_iam_role" "targetgate" {
  name               = "targetgate"
  assume_role_policy = file("${path.module}/trust-pod-identity.json")
}

resource "aws_iam_role_policy" "targetgate" {
  name   = "targetgate"
  role   = aws_iam_role.targetgate.id
  policy = file("${path.module}/policy.json")
}

resource "aws_eks_pod_identity_association" "targetgate" {
  cluster_name    = var.cluster_name
  namespace       = "targetgate-system"
  service_account = "targetgate"
  role_arn        = aws_iam_role.targetgate.arn
}

# For IRSA, use trust-irsa.json with your ACCOUNT, REGION and provider's ID as the assume_role_policy, omit the
# association, and annotate the ServiceAccount with the role's ARN.
